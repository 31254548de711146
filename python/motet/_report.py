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
import itertools
import json
import os
import platform
import queue
import resource
import shlex
import sys
import sysconfig
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import motet
from motet import _launch

LOOPS_LISTED = 100
LOOPS_SHOWN = 4
PLACES_SHOWN = 5
SECONDS_TO_ANSWER = 1.0
COUNTERS = ("turns", "polls", "callbacks", "timers_fired", "tasks_started", "connections_opened",
            "connections_accepted", "bytes_received", "bytes_sent")  # fmt: skip
NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(COUNTERS, 0),
    "busy_seconds": 0.0,
    "idle_seconds": 0.0,
    "lag": {"p50": 0.0, "p99": 0.0, "max": 0.0, "count": 0},
    "blocked": [],
}

Statistics = Mapping[str, Any]
Entry = dict[str, Any]


def start(loop_class: Any, program: Sequence[str], blocked_after: float, target: Path | None) -> None:
    """Record from now on; write the report at exit to `target`, or as text to standard error."""
    recorder = Recorder()
    _launch.observe(loop_class, recorder)
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


class Recorder:
    """Keeps what every loop did, and no loop alive.

    Loops are made and closed on any thread, and closed by the garbage collector in the middle of anything:
    closing only appends, and whoever gets the lock without waiting adds up.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._closed: deque[tuple[int, Statistics]] = deque()
        self._adding = threading.Lock()
        self._listed: dict[int, Entry] = {}
        self._loops = 0
        self._total = NOTHING
        self._others: Counter[str] = Counter()
        self._others_seen: dict[int, weakref.ref[Any]] = {}

    def in_its_process(self) -> bool:
        """False in a forked child, where the parent's loops and this object's lock mean nothing."""
        return os.getpid() == self._process

    def created(self, loop: Any) -> None:
        """Follow a loop of motet's."""
        self._open[id(loop)] = (next(self._numbers), weakref.ref(loop))

    def closed(self, loop: Any) -> None:
        """Keep the last statistics of a loop."""
        number, _ = self._open.pop(id(loop), (0, None))
        if number and self.in_its_process():
            self._closed.append((number, loop.statistics()))
            self._add_up(wait=False)

    def other(self, loop: Any) -> None:
        """Count a loop of another kind once."""
        seen = self._others_seen.get(id(loop))
        if seen is None or seen() is not loop:
            # A class without weak references has its loops counted at each run.
            with contextlib.suppress(TypeError):
                self._others_seen[id(loop)] = weakref.ref(loop)
            self._others[f"{type(loop).__module__}.{type(loop).__qualname__}"] += 1

    def _add_up(self, wait: bool) -> None:
        if not self._adding.acquire(blocking=wait):
            return
        try:
            while self._closed:
                number, statistics = self._closed.popleft()
                if number <= LOOPS_LISTED:
                    self._listed[number] = entry(number, statistics)
                self._total = statistics if self._loops == 0 else merge(self._total, statistics)
                self._loops += 1
        finally:
            self._adding.release()

    def results(self) -> Entry:
        """The part of the report about loops, those still open as they are now; to be asked for once."""
        for number, reference in list(self._open.values()):
            statistics = _read(reference())
            if statistics is not None:
                self._closed.append((number, statistics))
        self._open.clear()
        self._add_up(wait=True)
        return {
            "loops": [self._listed[number] for number in sorted(self._listed)],
            "total": entry(self._loops, self._total),
            "loops_unread": next(self._numbers) - 1 - self._loops,
            "other_loops": [{"type": kind, "count": count} for kind, count in self._others.most_common()],
        }


def _read(loop: Any) -> Statistics | None:
    """The statistics of an open loop, asked for on its own thread when it runs on another."""
    if loop is None:
        return None
    answer: queue.SimpleQueue[Statistics] = queue.SimpleQueue()
    try:
        answer.put(loop.statistics())
    except RuntimeError:
        # The loop may stop between the two calls; one that is blocked is not waited for.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: answer.put(loop.statistics()))
    with contextlib.suppress(queue.Empty):
        return answer.get(timeout=SECONDS_TO_ANSWER)
    return None


def merge(one: Statistics, other: Statistics) -> Statistics:
    """The statistics of two loops together; quantiles cannot be added and are left open."""
    summed = {name: one[name] + other[name] for name in (*COUNTERS, "busy_seconds", "idle_seconds")}
    lags = one["lag"], other["lag"]
    lag = {
        "p50": None,
        "p99": None,
        "max": max(lag["max"] for lag in lags),
        "count": sum(lag["count"] for lag in lags),
    }
    return {**summed, "lag": lag, "blocked": _longest([*one["blocked"], *other["blocked"]])}


def _longest(places: Sequence[Statistics]) -> list[Statistics]:
    """The five places that blocked longest, each once."""
    found: dict[tuple[str, str, int], Statistics] = {}
    for place in sorted(places, key=lambda place: -place["seconds"]):
        found.setdefault((place["function"], place["file"], place["line"]), place)
    return list(found.values())[:PLACES_SHOWN]


def entry(number: int, statistics: Statistics) -> Entry:
    """One loop as the report has it."""
    busy, idle = statistics["busy_seconds"], statistics["idle_seconds"]
    lag = statistics["lag"]
    return {
        "number": number,
        "busy_share": busy / (busy + idle) if busy + idle > 0 else None,
        "busy_seconds": busy,
        "idle_seconds": idle,
        **{name: statistics[name] for name in COUNTERS},
        "lag_milliseconds": {name: _thousandfold(lag[name]) for name in ("p50", "p99", "max")}
        | {"count": lag["count"]},
        "blocked": [
            {
                "function": place["function"],
                "file": place["file"],
                "line": place["line"],
                "milliseconds": place["seconds"] * 1000,
                "stack": [list(frame) for frame in place["stack"]],
            }
            for place in _longest(statistics["blocked"])
        ],
    }


def _thousandfold(value: float | None) -> float | None:
    return None if value is None else value * 1000


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
