"""What a report knows of a program's loops, gathered while they run; `_report.py` says what entries mean."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

LOOPS_LISTED = 100
PLACES_KEPT = 5
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
    return list(found.values())[:PLACES_KEPT]


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
