"""`motet run` leaves asyncio to the program: when, where and how that imports it, it gets motet's loop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

RUN = ["-m", "motet", "run"]
HEAVY = {
    "argparse", "asyncio", "concurrent.futures", "contextvars", "dataclasses", "inspect", "logging",
    "pathlib", "selectors", "signal", "socket", "ssl", "subprocess", "threading", "typing",
}  # fmt: skip

# What a program does to come to a function that makes a loop.
WAYS = {
    "package": "import asyncio\nmake = asyncio.new_event_loop",
    "name": "from asyncio import new_event_loop as make",
    "all names": "from asyncio import *\nmake = new_event_loop",
    "submodule": "import asyncio.events\nmake = asyncio.new_event_loop",
    "name of a submodule": "from asyncio.events import new_event_loop as make",
    "library function": "import importlib\nmake = importlib.import_module('asyncio.events').new_event_loop",
    "other module": "import sys, unittest.async_case\nmake = sys.modules['asyncio'].new_event_loop",
    "package of motet": "from motet import open_connection\nfrom asyncio import new_event_loop as make",
    "core of motet": "import motet._motet\nfrom asyncio import new_event_loop as make",
    "loop of motet": "from motet import new_event_loop as make",
    "looked for": "import importlib.util\nassert importlib.util.find_spec('asyncio').origin\n"
    "from asyncio import new_event_loop as make",
    "lazily": "import importlib.util, sys\nspec = importlib.util.find_spec('asyncio')\n"
    "spec.loader = importlib.util.LazyLoader(spec.loader)\n"
    "sys.modules['asyncio'] = module = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(module)\nmake = module.new_event_loop",
    "twice": "import asyncio, importlib\nmake = importlib.reload(asyncio).new_event_loop",
    "wrapped finders": "import sys\nclass Wrapper:\n"
    "    def __init__(self, finder): self.find_spec = finder.find_spec\n"
    "sys.meta_path[:] = map(Wrapper, sys.meta_path)\nfrom asyncio import new_event_loop as make",
    "thread": "import threading\ndef work():\n    global make\n"
    "    from asyncio import new_event_loop as make\n"
    "thread = threading.Thread(target=work)\nthread.start()\nthread.join()",
}

# The program's own modules, and what it does with them.
OWN_MODULES = {
    "asyncio": ("name = 'mine'", "import asyncio; print(asyncio.name)"),
    "argparse": ("name = 'mine'", "import argparse; print(argparse.name)"),
    "pathlib": ("name = 'mine'", "import pathlib; print(pathlib.name)"),
    "queue": ("1 / 0", "import asyncio; asyncio.run(asyncio.sleep(0)); print('ran')"),
    "selectors": ("1 / 0", "def f():\n    import asyncio\nf()"),
    "socket": ("def", "import asyncio"),
    "ssl": ("raise ImportError('none')", "import asyncio.events; print(asyncio.base_events.ssl)"),
    "heapq": ("import no_such_module", "import asyncio"),
}


def start(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def script(folder: Path, source: str) -> str:
    (folder / "script.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return "script.py"


def loops(options: list[str], source: str, folder: Path, **environment: str) -> str:
    """What a program prints that must end well and without complaints."""
    result = start([*RUN, *options, script(folder, source)], folder, **environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def imported(options: list[str], source: str, folder: Path) -> set[str]:
    """All modules that are imported from the interpreter's start to its end."""
    result = start(["-X", "importtime", *RUN, *options, script(folder, source)], folder)
    assert result.returncode == 0
    return set(re.findall(r"^import time:.*\| +(\S+)$", result.stderr, re.MULTILINE))


def test_an_empty_program_imports_little(tmp_path: Path) -> None:
    plain = start(["-X", "importtime", "-c", ""], tmp_path).stderr
    started = {name for name in HEAVY if re.search(rf"\| +{re.escape(name)}$", plain, re.MULTILINE)}
    modules = imported([], "", tmp_path)
    assert "motet._launch" in modules
    assert not (modules & HEAVY) - started
    assert not {name for name in modules if name.startswith(("asyncio", "motet._loop", "motet._motet"))}


@pytest.mark.parametrize(
    "options",
    [["--native-tasks", "--native-streams", "--blocked-after=5"], ["--report"], ["--report=out.json"]],
)
def test_no_option_imports_asyncio(options: list[str], tmp_path: Path) -> None:
    modules = imported(options, "", tmp_path)
    assert "motet._options" in modules
    assert not {name for name in modules if name.startswith(("asyncio", "_asyncio", "motet._loop"))}


def test_report_of_a_program_without_asyncio(tmp_path: Path) -> None:
    result = start([*RUN, "--report", script(tmp_path, "print('done')")], tmp_path)
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert result.stderr.startswith("\nmotet run script.py\nwall ")
    assert result.stderr.endswith("\n\nNo loop of motet's was made.\n")


@pytest.mark.parametrize("way", WAYS)
def test_every_import_gives_the_loop(way: str, tmp_path: Path) -> None:
    source = WAYS[way] + (
        "\nimport sys\nloop = make()\nprint(type(loop).__module__, round(loop.blocked_threshold, 6))\n"
        "loop.close()\n"
        "print(any('motet' in repr(x) for x in (*sys.meta_path, sys.modules['asyncio'].__spec__.loader)))"
    )
    assert loops(["--blocked-after=20"], source, tmp_path) == "motet._loop 0.02\nFalse\n"


@pytest.mark.parametrize("way", ["package", "submodule", "package of motet", "loop of motet"])
def test_every_import_is_told_of_loops_streams_and_tasks(way: str, tmp_path: Path) -> None:
    source = (
        WAYS[way]
        + """
import asyncio

async def main():
    print(type(asyncio.current_task()).__module__)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(type(reader).__module__)
    writer.close()
    server.close()

asyncio.run(main())
with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    runner.run(asyncio.sleep(0))
"""
    )
    options = ["--report", "--native-tasks", "--native-streams"]
    result = start([*RUN, *options, script(tmp_path, source)], tmp_path)
    assert (result.returncode, result.stdout) == (0, "motet\nmotet._streams\n")
    assert re.search(r"\nconnections opened +1\n", result.stderr)
    assert "also ran: asyncio.unix_events._UnixSelectorEventLoop, 1 loop\n" in result.stderr


def test_threads_that_import_at_once_all_get_the_loop(tmp_path: Path) -> None:
    source = """
        import threading
        at_once = threading.Barrier(8)
        def work(number):
            at_once.wait()
            if number % 2:
                import asyncio
                loop = asyncio.new_event_loop()
            else:
                import motet
                loop = motet.new_event_loop()
            print(type(loop).__module__ + "\\n", end="")
            loop.close()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """
    assert loops([], source, tmp_path) == "motet._loop\n" * 8


@pytest.mark.parametrize("early", ["import asyncio", "import motet", "import motet._loop"])
def test_what_was_imported_before_the_launcher_counts(early: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(early, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    source = """
        import asyncio
        loop = asyncio.new_event_loop()
        print(type(loop).__module__, round(loop.blocked_threshold, 6))
        loop.close()
    """
    assert loops(["--blocked-after=20"], source, tmp_path, PYTHONPATH=path) == "motet._loop 0.02\n"


def test_a_forked_child_that_imports_asyncio_gets_the_loop(tmp_path: Path) -> None:
    source = """
        import multiprocessing
        def work():
            import asyncio
            async def main(): print(type(asyncio.get_running_loop()).__module__, flush=True)
            asyncio.run(main())
        if __name__ == "__main__":
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
    """
    assert loops([], source, tmp_path) == "motet._loop\n"


def test_the_shell_of_asyncio_runs_on_the_loop(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, *RUN, "-m", "asyncio"],
        cwd=tmp_path,
        input="print('runs on', type(asyncio.get_running_loop()).__module__)\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "runs on motet._loop" in result.stdout


@pytest.mark.parametrize("name", OWN_MODULES)
def test_modules_beside_the_program_hide_the_librarys_as_under_python(name: str, tmp_path: Path) -> None:
    own, source = OWN_MODULES[name]
    (tmp_path / f"{name}.py").write_text(own, encoding="utf-8")
    program = str(tmp_path / script(tmp_path, source))
    # python -m looks for motet, too, in the current folder first.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    plain, ours = start([program], elsewhere), start([*RUN, program], elsewhere)
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
