"""The report: its numbers against an independent count, and its text and JSON from made-up statistics."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from motet import _record, _report

MOTET = [sys.executable, "-m", "motet", "run"]
PLACE = {
    "function": "parse",
    "file": os.path.abspath("app.py"),
    "line": 12,
    "seconds": 0.5123,
    "stack": [["parse", os.path.abspath("app.py"), 12], ["main", os.path.abspath("app.py"), 40]],
}


class MadeUpLoop:
    """Something with statistics."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def statistics(self) -> dict[str, Any]:
        return {
            "turns": 12_345,
            "polls": 12_000,
            "callbacks": 1_234_567,
            "timers_fired": 10,
            "tasks_started": 200,
            "connections_opened": 3,
            "connections_accepted": 4,
            "bytes_received": 5_000_000,
            "bytes_sent": 700,
            "busy_seconds": 1.5,
            "idle_seconds": 4.5,
            "lag": {"p50": 0.000_012, "p99": 0.0034, "max": 1.25, "count": 12_000},
            "blocked": [PLACE],
        } | self.changes


def report_of(recorder: _record.Recorder, **changes: Any) -> dict[str, Any]:
    cpu = {"user": 1.0, "system": 0.5, "children_user": 0.0, "children_system": 0.0}
    base = {
        "program": ["app.py", "a b"],
        "wall_seconds": 6.0,
        "cpu_seconds": cpu,
        "blocked_after_milliseconds": 100.0,
    }
    return base | recorder.results() | changes


def recorded(*loops: MadeUpLoop) -> _record.Recorder:
    recorder = _record.Recorder()
    for loop in loops:
        recorder.created(loop)
        recorder.closed(loop)
    return recorder


def run(options: list[str], source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return subprocess.run(
        [*MOTET, *options, "script.py"], cwd=folder, capture_output=True, text=True, timeout=60
    )


def measured(source: str, folder: Path, *options: str) -> dict[str, Any]:
    """The JSON report of a program that must succeed, and what it `printed`."""
    result = run(["--report=out.json", *options], source, folder)
    assert (result.returncode, result.stderr) == (0, "")
    report: dict[str, Any] = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    report["printed"] = result.stdout
    return report


def test_text_of_one_loop() -> None:
    assert _report.render(report_of(recorded(MadeUpLoop())), colour=False) == textwrap.dedent(
        """
        motet run app.py 'a b'
        wall 6 s, CPU 1.5 s (user 1 s, system 500 ms), 25% of one core

                                 loop 1
        busy                        25%
        turns                    12,345
        callbacks             1,234,567
        tasks started               200
        connections opened            3
        connections accepted          4
        bytes received          4.8 MiB
        bytes sent                700 B
        lag p50                   12 µs
        lag p99                  3.4 ms
        lag max                  1.25 s

        blocked            function  place
        loop 1   512.3 ms  parse     app.py:12
        """
    )


def test_text_of_many_loops_shows_the_first_and_all() -> None:
    late = {**PLACE, "function": "late", "seconds": 2.0}
    loops = [MadeUpLoop(blocked=[]) for _ in range(149)] + [MadeUpLoop(blocked=[late])]
    text = _report.render(report_of(recorded(*loops)), colour=False)
    lines = text.splitlines()
    assert re.fullmatch(" +loop 1 +loop 2 +loop 3 +loop 4 +all 150", lines[4])
    assert re.search(r"\ntasks started +200 +200 +200 +200 +30,000\n", text)
    assert re.search(r"\nlag p99 .* -\n", text)
    assert re.search(r"\nlag max .* 1\.25 s\n", text)
    assert re.search(r"\nall +2,000\.0 ms +late +app\.py:12\n", text)
    assert len({len(line) for line in lines[4:16]}) == 1


def test_json_of_many_loops() -> None:
    loops = [
        MadeUpLoop(lag={"p50": 0.0, "p99": 0.0, "max": number / 1000, "count": 1}) for number in range(150)
    ]
    results = recorded(*loops).results()
    assert [loop["number"] for loop in results["loops"]] == list(range(1, 101))
    assert results["total"]["number"] == 150
    assert results["total"]["callbacks"] == 150 * 1_234_567
    assert results["total"]["busy_share"] == pytest.approx(0.25)
    assert results["total"]["lag_milliseconds"] == {"p50": None, "p99": None, "max": 149.0, "count": 150}
    json.dumps(results)


def test_five_longest_places_each_once() -> None:
    places = [{**PLACE, "line": number % 7, "seconds": number / 10} for number in range(50)]
    (loop,) = recorded(MadeUpLoop(blocked=places)).results()["loops"]
    assert [(place["line"], place["milliseconds"]) for place in loop["blocked"]] == [
        (0, 4900.0),
        (6, 4800.0),
        (5, 4700.0),
        (4, pytest.approx(4600.0)),
        (3, 4500.0),
    ]


def test_blocked_library_names_the_caller() -> None:
    stack = [["compile", re.__file__, 5], ["match", re.__file__, 9], ["parse", os.path.abspath("app.py"), 12]]
    place = {**PLACE, "function": "compile", "file": re.__file__, "line": 5, "stack": stack}
    text = _report.render(report_of(recorded(MadeUpLoop(blocked=[place]))), colour=False)
    assert text.endswith(f"{re.__file__}:5, called by parse app.py:12\n")


@pytest.mark.parametrize(
    ("threshold", "line"),
    [
        (100.0, "blocked: no callback held a loop for 100 ms"),
        (0.0, "blocked: not watched (--blocked-after=0)"),
    ],
)
def test_nothing_blocked(threshold: float, line: str) -> None:
    report = report_of(recorded(MadeUpLoop(blocked=[])), blocked_after_milliseconds=threshold)
    assert line in _report.render(report, colour=False).splitlines()


def test_no_loop_and_other_loops() -> None:
    recorder, other = recorded(), MadeUpLoop()
    recorder.other(other)
    recorder.other(other)
    text = _report.render(report_of(recorder), colour=False)
    assert text.endswith(f"\nNo loop of motet's was made.\nalso ran: {__name__}.MadeUpLoop, 1 loop\n")


def test_loop_that_never_ran() -> None:
    loop = MadeUpLoop(busy_seconds=0.0, idle_seconds=0.0, blocked=[])
    text = _report.render(report_of(recorded(loop)), colour=False)
    assert re.search(r"\nbusy +-\n", text)


def test_children_have_a_line_of_their_own() -> None:
    cpu = {"user": 0.0, "system": 0.0, "children_user": 2.0, "children_system": 0.25}
    text = _report.render(report_of(recorded(), cpu_seconds=cpu), colour=False)
    assert "\nchild processes: CPU 2.25 s (user 2 s, system 250 ms)\n" in text


def test_colour_changes_nothing_but_colour() -> None:
    report = report_of(recorded(MadeUpLoop(), MadeUpLoop()))
    coloured = _report.render(report, colour=True)
    assert "\x1b[1m" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == _report.render(report, colour=False)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert _report.wants_colour(Terminal())
    assert not _report.wants_colour(io.StringIO())
    assert not _report.wants_colour(None)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not _report.wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not _report.wants_colour(Terminal())


def test_open_loops_are_read_and_none_is_kept_alive() -> None:
    recorder = _record.Recorder()
    kept, dropped = MadeUpLoop(), MadeUpLoop()
    recorder.created(kept)
    recorder.created(dropped)
    del dropped
    report = report_of(recorder)
    assert [loop["number"] for loop in report["loops"]] == [1]
    assert report["total"]["callbacks"] == 1_234_567
    assert report["loops_unread"] == 1
    text = _report.render(report, colour=False)
    assert text.endswith("\nnot read: 1 loop, dropped without close or still busy on another thread\n")


def test_loop_still_running_on_another_thread_is_read(tmp_path: Path) -> None:
    report = measured(
        """
        import asyncio, threading

        running = threading.Event()

        async def main():
            running.set()
            await asyncio.Event().wait()

        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        running.wait()
        """,
        tmp_path,
    )
    (loop,) = report["loops"]
    assert loop["tasks_started"] == 1
    assert report["loops_unread"] == 0


def test_loops_closed_on_many_threads_all_count() -> None:
    recorder = _record.Recorder()

    def work() -> None:
        for _ in range(200):
            loop = MadeUpLoop()
            recorder.created(loop)
            recorder.closed(loop)
            recorder.closed(loop)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = recorder.results()
    assert results["total"]["number"] == 800
    assert results["total"]["callbacks"] == 800 * 1_234_567


def test_counts_of_callbacks_and_tasks_add_up(tmp_path: Path) -> None:
    report = measured(
        """
        import asyncio

        ran = {"callbacks": 0, "tasks": 0}

        def callback(left, future):
            ran["callbacks"] += 1
            if left:
                asyncio.get_running_loop().call_soon(callback, left - 1, future)
            else:
                future.set_result(None)

        async def task():
            ran["tasks"] += 1

        async def main(callbacks, tasks):
            future = asyncio.get_running_loop().create_future()
            callback(callbacks, future)
            await future
            for _ in range(tasks):
                await asyncio.create_task(task())

        for callbacks, tasks in ((10, 20), (1010, 20), (10, 320)):
            ran.update(callbacks=-1, tasks=0)
            asyncio.run(main(callbacks, tasks))
            print(ran["callbacks"], ran["tasks"])
        """,
        tmp_path,
    )
    counted = [tuple(map(int, line.split())) for line in report["printed"].splitlines()]
    assert counted == [(10, 20), (1010, 20), (10, 320)]
    first, chain, tasks = report["loops"]
    # Differences, so that what asyncio.run itself schedules cancels out.
    assert chain["callbacks"] - first["callbacks"] == 1000
    assert chain["tasks_started"] == first["tasks_started"]
    assert tasks["tasks_started"] - first["tasks_started"] == 300
    assert report["total"]["number"] == 3
    for name in ("callbacks", "tasks_started", "turns"):
        assert report["total"][name] == sum(loop[name] for loop in report["loops"])


def test_connections_and_bytes_add_up(tmp_path: Path) -> None:
    report = measured(
        """
        import asyncio

        async def serve(reader, writer):
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            writer.close()

        async def client(port, size):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(size))
            assert await reader.readexactly(size) == bytes(size)
            writer.close()
            await writer.wait_closed()
            return size

        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            print(sum(await asyncio.gather(*(client(port, 1000 * n) for n in range(1, 13)))))
            while len(asyncio.all_tasks()) > 1:  # Python 3.11 complains of servers that are cancelled.
                await asyncio.sleep(0.01)
            server.close()

        asyncio.run(main())
        """,
        tmp_path,
    )
    (loop,) = report["loops"]
    echoed = int(report["printed"])
    assert echoed == 78_000
    assert (loop["connections_opened"], loop["connections_accepted"]) == (12, 12)
    assert (loop["bytes_received"], loop["bytes_sent"]) == (2 * echoed, 2 * echoed)


def test_blocked_place_is_named(tmp_path: Path) -> None:
    report = measured(
        """
        import asyncio, time

        def hold():
            time.sleep(0.4)

        async def main():
            asyncio.get_running_loop().call_soon(hold)
            await asyncio.sleep(0.01)

        asyncio.run(main())
        """,
        tmp_path,
        "--blocked-after=50",
    )
    (loop,) = report["loops"]
    place = loop["blocked"][0]
    assert (place["function"], place["line"]) == ("hold", 5)
    assert os.path.samefile(place["file"], tmp_path / "script.py")
    assert place["milliseconds"] >= 50
    assert loop["lag_milliseconds"]["max"] >= 400
    assert report["wall_seconds"] >= 0.4
    assert 0 < loop["busy_share"] <= 1


def test_report_is_last_and_leaves_output_alone(tmp_path: Path) -> None:
    result = run(
        ["--report"],
        """
        import asyncio, atexit, sys
        atexit.register(print, "handler", file=sys.stderr)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        print("program")
        sys.exit(3)
        """,
        tmp_path,
    )
    assert (result.stdout, result.returncode) == ("program\n", 3)
    assert result.stderr.startswith("handler\n\nmotet run script.py\nwall ")


def test_forked_child_writes_no_report(tmp_path: Path) -> None:
    result = run(
        ["--report"],
        """
        import asyncio, os, sys
        asyncio.run(asyncio.sleep(0))
        child = os.fork()
        asyncio.run(asyncio.sleep(0))
        if child:
            print(os.waitpid(child, 0)[1])
        """,
        tmp_path,
    )
    assert result.stdout == "0\n"
    assert result.stderr.count("\nmotet run script.py\n") == 1
    assert "all 2\n" in result.stderr


def test_report_file_is_where_it_was_asked_for(tmp_path: Path) -> None:
    report = measured("import os; os.mkdir('other'); os.chdir('other')", tmp_path)
    assert report["program"] == ["script.py"]
    assert set(report["cpu_seconds"]) == {"user", "system", "children_user", "children_system"}
    assert report["wall_seconds"] > 0
    assert (report["loops"], report["other_loops"]) == ([], [])


def test_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    result = run(["--report=folder/out.json"], "import os; os.rmdir('folder')", tmp_path)
    path = str(tmp_path / "folder" / "out.json")
    assert result.stderr == f"motet run: cannot write the report to {path!r}: No such file or directory\n"
    assert result.returncode == 0
