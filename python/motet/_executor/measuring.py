"""In a worker: what a call costs, told to the parent, which is to choose a place for calls like it.

A call that runs alone in its worker shows what it would be to other threads: how long it waits, and how
long it keeps the GIL from them. This is seen by a thread that wants the GIL now and then, and times the wait.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
from pickle import dumps
from struct import Struct
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

if TYPE_CHECKING:
    from collections.abc import Callable

# Nanoseconds between two looks at the GIL: many in a call of some milliseconds, and little work.
PAUSE = 300_000
# Nanoseconds after which the GIL was not free. Free, it takes less than 1,000; to be woken takes 30,000.
LATE = 10_000

# Set in the number of a function, for its measured form.
MARK = 1 << 31

_costs = Struct("<5q")


class Costs(NamedTuple):
    """Of one call, in nanoseconds.

    `wall` is without the time in which it could have run but had no processor, `cpu` its thread's. A number
    of `looks` at the GIL covered the time `watched`, for `held` of which no other thread could have had it.
    """

    wall: int
    cpu: int
    looks: int
    watched: int
    held: int

    @classmethod
    def load(cls, data: bytes) -> Costs:
        """What `dump` has made bytes of."""
        return cls(*_costs.unpack(data))

    def dump(self) -> bytes:
        """As bytes."""
        return _costs.pack(*self)


def measured(blob: bytes) -> bytes:
    """The pickle of a function that measures calls of the pickled one, but for the first."""
    return dumps(_Blob(blob), 5)


class _Blob:
    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    def __reduce__(self) -> Any:
        return _load, (self._blob,)


def _load(blob: bytes) -> Callable[..., Any]:
    from .shipping import load_function

    function = load_function(blob)

    is_first = True

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal is_first
        if is_first:
            # It may import much, and says little of those to come.
            is_first = False
            return function(*arguments, **keywords)
        return _measure(function, arguments, keywords)

    return call


def _measure(function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    watch = _Watch()
    delay = _delay()
    cpu = thread_time_ns()
    wall = perf_counter_ns()
    try:
        return function(*arguments, **keywords)
    finally:
        end = perf_counter_ns()
        cpu = thread_time_ns() - cpu
        delay = _delay() - delay
        watch.end(end)
        costs = Costs(max(end - wall - delay, cpu), cpu, watch.looks, watch.watched, watch.held)
        _tell(costs)


def _tell(costs: Costs) -> None:
    from . import worker

    if worker.current is not None:
        worker.current.measured(costs.dump())


def _delay() -> int:
    """Nanoseconds that this thread could have run, but others did on a busy machine; 0 if unknown."""
    try:
        with open("/proc/thread-self/schedstat", "rb", 0) as numbers:
            return int(numbers.read(100).split()[1])
    except (OSError, ValueError, IndexError):
        return 0


class _Watch:
    """A thread that looks whether the GIL is held. Not of `threading`'s, whose list the call may look at."""

    def __init__(self) -> None:
        global _watching
        self.looks = self.watched = self.held = 0
        self._end: int | None = None
        self._over = _thread.allocate_lock()
        # Without a GIL in force here, there is nothing to see.
        if getattr(sys, "_is_gil_enabled", lambda: True)():
            _watching = self
            self._over.acquire()
            try:
                _thread.start_new_thread(self._look, ())
            except RuntimeError:
                self._over.release()

    def end(self, time: int) -> None:
        """Look no more; what was seen until this time counts."""
        global _watching
        if self._end is None:
            self._end = time
        # It may be about to tell of a long wait.
        with self._over:
            _watching = None

    def _look(self) -> None:
        try:
            while self._end is None:
                wait = _motet._wait_for_interpreter(PAUSE)
                now, end = perf_counter_ns(), self._end
                if end is not None:
                    # After the call's end, this function waits for no GIL of the call's.
                    wait = min(now, end) - (now - wait)
                    if wait < 0:
                        break
                self.looks += 1
                self.watched += PAUSE + wait
                if wait > LATE:
                    # As it was at the end of the pause, it is taken to have been before.
                    self.held += PAUSE + wait
        finally:
            self._over.release()


_watching: _Watch | None = None


def _before_fork() -> None:
    """A process with two threads is not to be forked."""
    if _watching is not None:
        with contextlib.suppress(RuntimeError):
            _watching.end(perf_counter_ns())


os.register_at_fork(before=_before_fork)
