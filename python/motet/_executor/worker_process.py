"""A worker process as its parent sees it."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from .zygote_messages import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds after which nobody waits for an orphan that cannot be looked at: the kernel has killed it.
PATIENCE = 5.0


class Stopping(NamedTuple):
    """A call that was asked to stop: why, and until when it has time to."""

    number: int
    reason: str
    until: float


class Worker:
    """A worker process, with those methods of `multiprocessing.Process` that look or end. Thread-safe."""

    def __init__(self, lane: int, name: str, place: int, ask: Callable[[Signal], object]) -> None:
        self.lane = lane
        self.name = name
        # Has its zygote signal it.
        self._ask = ask
        # Of those that the executor has for workers; who replaces it has the same.
        self.place = place
        # When it was told to end: the monotonic time.
        self.told_at = math.inf
        # It has done as many calls as it may.
        self.retires = False
        # It was killed because it had not ended in time.
        self.lingered = False
        # The session of its zygote, once that is gone, which takes it along.
        self.orphan_of = 0
        self.stopping: Stopping | None = None
        # What its initializer raised.
        self.failure: BaseException | None = None
        # The number is known once it is born, the exit status once it has ended.
        self.pid = 0
        self.born_at = 0.0
        self.exitcode: int | None = None
        self._process = -1
        self._lock = threading.RLock()
        self._born = threading.Event()
        self._ended = threading.Event()

    @property
    def told_to_end(self) -> bool:
        """Whether it knows that no call will come."""
        return self.told_at != math.inf

    def begin(self, pid: int, process: int) -> None:
        """It is born; `process` is a descriptor of it, -1 if there was no place for one."""
        self.born_at = time.monotonic()
        self.pid, self._process = pid, process
        self._born.set()

    def end(self, status: int) -> None:
        """It has ended."""
        with self._lock:
            process, self._process = self._process, -1
            self.exitcode = status
        if process >= 0:
            os.close(process)
        self._born.set()
        self._ended.set()

    def signal(self, number: int) -> bool:
        """Send a signal; false if it is not born, or has ended."""
        # Under the lock, since a descriptor that is closed meanwhile may come to mean another worker.
        with self._lock:
            if not self.pid or self.exitcode is not None:
                return False
            if self._process < 0:
                self._ask(Signal(self.pid, number))
                return True
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._process, number)
            return True

    def kill_and_wait(self) -> None:
        """End it by SIGKILL and wait for that, if its number is known. Not while `end` may be called."""
        if self.pid and self._process < 0:
            self._process = _open_patiently(self.pid)
        if self._process >= 0:
            self.signal(signal.SIGKILL)
            end = select.poll()
            end.register(self._process, select.POLLIN)
            end.poll()

    def wait_born(self, timeout: float | None = None) -> bool:
        """Wait for its number; false if there is none after `timeout` seconds."""
        return self._born.wait(timeout)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        self._ended.wait(timeout)

    def terminate(self) -> None:
        """End it by SIGTERM, which calls may catch."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.signal(signal.SIGKILL)


def _open_patiently(pid: int) -> int:
    """A descriptor of an orphan that is about to end; -1 if it has, or there is no place for one."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            break
        except OSError:
            time.sleep(0.01)
    return -1
