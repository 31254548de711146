"""A notebook: its bar of `progress=True`, and functions that its cells define, and define anew."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="tests/ecosystem/requirements.txt is not installed")
pytest.importorskip("ipywidgets", reason="tests/ecosystem/requirements.txt is not installed")
nbclient = pytest.importorskip("nbclient", reason="tests/ecosystem/requirements.txt is not installed")
nbformat = pytest.importorskip("nbformat")

pytestmark = [
    pytest.mark.thread_unsafe(reason="a kernel for each thread would be too much"),
    pytest.mark.timeout(180),
]


def run(*cells: str) -> Any:
    """The notebook of these cells after it has run in a kernel of this interpreter."""
    sources = map(textwrap.dedent, cells)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return notebook


def printed(cell: Any, name: str = "stdout") -> str:
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


def test_functions_of_cells_run_on_workers_as_they_are_now() -> None:
    notebook = run(
        """
        import os
        import motet

        FACTOR = 2

        def helper(number):
            return number * FACTOR

        def work(number):
            return helper(number), os.getpid() != HERE

        HERE = os.getpid()
        # Without a GIL a mapping would run on threads.
        PLACE = "processes"
        executor = motet.Executor("processes", max_workers=1)
        """,
        "print(executor.submit(work, 10).result(60), list(motet.map(work, [1, 2], on=PLACE, workers=1)))",
        """
        def helper(number):
            return number * FACTOR + 1
        """,
        "print(executor.submit(work, 10).result(60), list(motet.map(work, [1, 2], on=PLACE, workers=1)))",
        "FACTOR = 3",
        "print(executor.submit(work, 10).result(60), list(motet.map(work, [1, 2], on=PLACE, workers=1)))",
        """
        class Point:
            def __init__(self, x): self.x = x
            def moved(self): return Point(self.x + 1)

        first = executor.submit(Point.moved, Point(1)).result(60)

        class Point:
            def __init__(self, x): self.x = x
            def moved(self): return Point(self.x + 10)

        second = executor.submit(Point.moved, Point(1)).result(60)
        print(first.x, second.x, type(second) is Point)
        executor.shutdown()
        """,
    )
    assert printed(notebook.cells[1]) == "(20, True) [(2, True), (4, True)]\n"
    assert printed(notebook.cells[3]) == "(21, True) [(3, True), (5, True)]\n"
    assert printed(notebook.cells[5]) == "(31, True) [(4, True), (7, True)]\n"
    assert printed(notebook.cells[6]) == "2 11 True\n"


def test_the_bar_is_a_widget() -> None:
    notebook = run(
        "import motet",
        """
        def check(number):
            if number == 3:
                raise ValueError
            return number

        print(len(list(motet.map(check, range(50), workers=1, progress=True, on_error="skip"))))
        """,
        """
        found = [n async for n in motet.amap(check, range(3), workers=1, progress=True)]
        print(found)
        """,
    )
    for cell, line in ((notebook.cells[1], "49\n"), (notebook.cells[2], "[0, 1, 2]\n")):
        assert printed(cell) == line
        # No bar of letters.
        assert printed(cell, "stderr") == ""
        views = [output for output in cell.outputs if output.output_type == "display_data"]
        assert len(views) == 1
        assert "application/vnd.jupyter.widget-view+json" in views[0].data
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    bars = [widget["state"] for widget in widgets if widget["model_name"] == "FloatProgressModel"]
    assert sorted((bar["value"], bar["max"]) for bar in bars) == [(3, 3), (50, 50)]
    labels = [widget["state"]["value"] for widget in widgets if widget["model_name"] == "HTMLModel"]
    texts = [" ".join(label.split()) for label in labels]
    assert any("50/50" in text and "1 failed" in text for text in texts), texts
