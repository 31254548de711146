"""What `motet run --report` tells: where a program's time went.

`start` begins to record; the report is written when the interpreter exits, after the program's own exit
handlers. A program that ends by `os._exit`, `os.exec*` or a fatal signal writes none, a forked child neither.

As text the report shows the first loops side by side, then the places that blocked a loop longest. As JSON:

    program          list of str: the words of the command line from the script or -m on
    motet, python    str: versions
    wall_seconds     float: from the program's start to its end
    cpu_seconds      {"user", "system", "children_user", "children_system"}: float; children when waited for
    blocked_after_milliseconds  float: the watchdog's threshold, 0 when it was off
    loops            list of loop: motet's loops in the order they were made, at most 100
    total            loop: all of motet's loops together, "number" being how many there were
    loops_unread     int: loops dropped without close, or at the end still busy on another thread
    other_loops      list of {"type": str, "count": int}: loops that are not motet's but ran

    loop = {"number": int, "busy_share": float or null (never ran),
            "busy_seconds", "idle_seconds": float,
            "turns", "polls", "callbacks", "timers_fired", "tasks_started": int,
            "connections_opened", "connections_accepted", "bytes_received", "bytes_sent": int,
            "lag_milliseconds": {"p50", "p99", "max": float, "count": int},
            "blocked": list of place: the five that blocked longest}
    place = {"function", "file": str, "line": int, "milliseconds": float,
             "stack": list of [function, file, line], innermost first}

Lag is the length of a busy stretch between two polls: how long an event may have waited. Its quantiles cannot
be added, so in `total` p50 and p99 are null when there were several loops.

Another loop is seen when it announces itself through `asyncio.events._set_running_loop`, as asyncio's and
uvloop's do. One that took the C function from `_asyncio` itself, or whose module was imported before the
report started, is not seen.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import platform
import resource
import shlex
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import motet
from motet._record import Entry, Recorder

LOOPS_SHOWN = 4


class CannotWrite(Exception):
    """There will be no way to write the report."""


def start(program: Sequence[str], blocked_after: float, file: str | None) -> Recorder:
    """Have a report written at exit, as JSON into `file` or as text to standard error.

    The recorder is to be told of the program's loops.
    """
    target = _target(file) if file else None
    recorder = Recorder()
    begin = _times()

    def finish() -> None:
        if not recorder.in_its_process():
            return
        end = _times()
        wall, *cpu = (after - before for after, before in zip(end, begin, strict=True))
        names = ("user", "system", "children_user", "children_system")
        report = {
            "program": list(program),
            "motet": motet.__version__,
            "python": platform.python_version(),
            "wall_seconds": wall,
            "cpu_seconds": dict(zip(names, cpu, strict=True)),
            "blocked_after_milliseconds": blocked_after,
            **recorder.results(),
        }
        _write(report, target)

    atexit.register(finish)
    return recorder


def _target(file: str) -> Path:
    target = Path(os.path.abspath(file))
    if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise CannotWrite(f"cannot write the report to {file!r}; give a file in a writable directory")
    return target


def _times() -> tuple[float, ...]:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), own.ru_utime, own.ru_stime, children.ru_utime, children.ru_stime


def _write(report: Entry, target: Path | None) -> None:
    if target is not None:
        try:
            target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            return
        except OSError as error:
            text = f"motet run: cannot write the report to {str(target)!r}: {error.strerror}\n"
    else:
        text = render(report, wants_colour(sys.__stderr__))
    # Whoever read standard error may have gone, as after "2>&1 | head".
    with contextlib.suppress(OSError, ValueError):
        if sys.__stderr__ is not None:
            sys.__stderr__.write(text)


def wants_colour(stream: TextIO | None) -> bool:
    """Colours are for terminals, and for people who did not ask for none."""
    if stream is None or stream.closed or not stream.isatty():
        return False
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(report: Entry, colour: bool) -> str:
    """The report as text for people."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if colour else ("", "")
    lines = ["", f"{bold}motet run {shlex.join(report['program'])}{plain}", *_time_lines(report), ""]
    if report["total"]["number"]:
        lines += _table(_loop_rows(report), bold, plain)
        lines += ["", *_blocked_lines(report, bold, plain)]
    else:
        lines.append(
            "No loop of motet's was read." if report["loops_unread"] else "No loop of motet's was made."
        )
    if report["loops_unread"]:
        unread = _count(report["loops_unread"], "loop")
        lines.append(f"not read: {unread}, dropped without close or still busy on another thread")
    for other in report["other_loops"]:
        lines.append(f"also ran: {other['type']}, {_count(other['count'], 'loop')}")
    return "\n".join(lines) + "\n"


def _time_lines(report: Entry) -> list[str]:
    wall, cpu = report["wall_seconds"], report["cpu_seconds"]
    lines = [f"wall {_duration(wall)}, {_cpu(cpu['user'], cpu['system'])}"]
    if wall > 0:
        lines[0] += f", {_share((cpu['user'] + cpu['system']) / wall)} of one core"
    if cpu["children_user"] + cpu["children_system"] > 0:
        lines.append(f"child processes: {_cpu(cpu['children_user'], cpu['children_system'])}")
    return lines


def _cpu(user: float, system: float) -> str:
    return f"CPU {_duration(user + system)} (user {_duration(user)}, system {_duration(system)})"


def _loop_rows(report: Entry) -> list[list[str]]:
    count = report["total"]["number"]
    columns = report["loops"][:LOOPS_SHOWN]
    heads = [f"loop {loop['number']}" for loop in columns]
    if count > 1:
        columns, heads = [*columns, report["total"]], [*heads, f"all {count:,}"]
    rows = [["", *heads], ["busy", *(_share(loop["busy_share"]) for loop in columns)]]
    for name in ("turns", "callbacks", "tasks_started", "connections_opened", "connections_accepted"):
        rows.append([name.replace("_", " "), *(f"{loop[name]:,}" for loop in columns)])
    for name in ("bytes_received", "bytes_sent"):
        rows.append([name.replace("_", " "), *(_size(loop[name]) for loop in columns)])
    for name in ("p50", "p99", "max"):
        rows.append([f"lag {name}", *(_lag(loop["lag_milliseconds"][name]) for loop in columns)])
    return rows


def _blocked_lines(report: Entry, bold: str, plain: str) -> list[str]:
    threshold = report["blocked_after_milliseconds"]
    if threshold == 0:
        return ["blocked: not watched (--blocked-after=0)"]
    shown = report["loops"][:LOOPS_SHOWN]
    places = [(f"loop {loop['number']}", place) for loop in shown for place in loop["blocked"]]
    if report["total"]["number"] > len(shown):
        seen = [place for _, place in places]
        places += [("all", place) for place in report["total"]["blocked"] if place not in seen]
    if not places:
        return [f"blocked: no callback held a loop for {threshold:g} ms"]
    rows = [["blocked", "", "function", "place"]]
    for loop, place in places:
        where = f"{_short(place['file'])}:{place['line']}"
        caller = _caller(place)
        rows.append(
            [
                loop,
                f"{place['milliseconds']:,.1f} ms",
                place["function"],
                where + (f", called by {caller}" if caller else ""),
            ]
        )
    return _table(rows, bold, plain, left=(0, 2, 3))


def _caller(place: Entry) -> str | None:
    """The nearest place in the program's own code, when a library's function blocked."""
    libraries = [sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for depth, (function, file, line) in enumerate(place["stack"]):
        if not file.startswith((*libraries, "<frozen ")):
            return f"{function} {_short(file)}:{line}" if depth else None
    return None


def _table(rows: list[list[str]], bold: str, plain: str, left: tuple[int, ...] = (0,)) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [f"{bold}{lines[0]}{plain}", *lines[1:]]


def _short(file: str) -> str:
    relative = os.path.relpath(file)
    return file if relative.startswith(os.pardir) else relative


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _lag(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else _duration(milliseconds / 1000)


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 100 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def _size(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"
