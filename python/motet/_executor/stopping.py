"""Stopping the calls of worker processes: an exception first, and the worker's end if that is of no use."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from .crew import Crew, Settings
from .worker import STOP_SIGNAL
from .worker_process import Stopping, Worker

if TYPE_CHECKING:
    from motet import _motet

    from .futures import CallFuture

# Seconds that a call has to end after it was asked to.
GRACE = 1.0
# Seconds between two looks at how much memory workers use.
MEMORY_INTERVAL = 0.1
# Seconds that workers have for their exit handlers when the interpreter exits or another is to follow them.
EXIT_GRACE = 30.0
# Seconds between two looks at which workers have done all their calls.
RETIREMENT_INTERVAL = 1.0


class StoppableCrew(Crew):
    """Worker processes whose calls can be stopped."""

    def __init__(self, settings: Settings, pool: _motet.Pool) -> None:
        super().__init__(settings, pool)
        # Held while a worker's `stopping` is looked at and changed; signal handlers may cancel.
        self._signalling = threading.RLock()
        # All is to end, and at this time by force.
        self._killing = False
        self._kill_at = math.inf
        # Seconds that workers have to end once they are told to; as in `concurrent.futures`, any number.
        self._leave_within = math.inf
        # The names of those that did not.
        self._lingering: list[str] = []

    def withdraw_all(self) -> list[CallFuture[Any]]:
        """Take back the calls that no worker has begun, the oldest first."""
        calls: list[CallFuture[Any]] = self.pool.withdraw_all()
        return calls

    def kill(self, number: int, reason: str) -> bool:
        """Stop the call of this number if a worker is at it."""
        lane = self.pool.lane_of(number)
        worker = None if lane is None else self.workers.get(lane)
        return worker is not None and self._stop_call(worker, number, reason)

    def kill_all(self) -> None:
        """Stop all calls that run, and soon what runs instead of a call, such as an initializer."""
        self._killing, self._kill_at = True, time.monotonic() + GRACE
        self._leave_within = GRACE
        self._stop_calls()
        self.pool.ring()

    def _stop_calls(self) -> None:
        for worker in list(self.workers.values()):
            number = self.pool.call_of(worker.lane)
            if number is not None:
                self._stop_call(worker, number, "cancel")

    def _stop_call(self, worker: Worker, number: int, reason: str) -> bool:
        with self._signalling:
            stopping = worker.stopping
            if stopping is not None and stopping.number == number:
                # Who cancels wants no other attempt.
                worker.stopping = stopping._replace(reason=reason)
                return True
            if not self.pool.ask_to_stop(worker.lane, number):
                return False
            worker.stopping = Stopping(number, reason, time.monotonic() + GRACE)
        worker.signal(STOP_SIGNAL)
        self.pool.ring()
        return True

    def _patience(self) -> float | None:
        """Seconds until something is to be done though nothing has happened."""
        now = time.monotonic()
        waits = [worker.stopping.until - now for worker in list(self.workers.values()) if worker.stopping]
        waits.append(self._kill_at - now)
        waits += [self._leaves_at(worker) - now for worker in list(self.workers.values())]
        if self.settings.memory_limit is not None and self.pool.unfinished():
            waits.append(MEMORY_INTERVAL)
        if self.settings.calls_per_worker is not None and self.pool.unfinished():
            waits.append(RETIREMENT_INTERVAL)
        patience = min(waits)
        return None if patience == math.inf else max(0.0, patience)

    def _end_the_stubborn(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers.values()):
            stopping = worker.stopping
            if stopping is None:
                continue
            if worker.failure is not None:
                if stopping.until <= now:
                    worker.stopping = stopping._replace(until=math.inf)
                    worker.signal(signal.SIGKILL)
            elif self.pool.call_of(worker.lane) != stopping.number:
                # What it has answered is told with the reason still known.
                self.pool.run(0)
                with self._signalling:
                    if worker.stopping is stopping:
                        worker.stopping = None
            elif stopping.until <= now:
                self._kill_worker(worker, stopping.number, stopping.reason)

    def hurry_up(self) -> None:
        """The interpreter exits: workers have `EXIT_GRACE` seconds for their exit handlers."""
        self._leave_within = min(self._leave_within, EXIT_GRACE)
        self.pool.ring()

    def _leaves_at(self, worker: Worker) -> float:
        """Until when a worker has time to end. One that is not born yet cannot be killed."""
        if worker.lingered or not worker.pid:
            return math.inf
        return worker.told_at + (self._exit_grace() if worker.retires else self._leave_within)

    def _exit_grace(self) -> float:
        return min(self._leave_within, EXIT_GRACE)

    def _retire(self) -> None:
        """Note which workers have done all their calls: the core has told them to end."""
        for lane in self.pool.done_lanes():
            worker = self.workers.get(lane)
            if worker is not None and not worker.told_to_end:
                worker.retires, worker.told_at = True, time.monotonic()

    def _end_the_lingering(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers.values()):
            if self._leaves_at(worker) <= now:
                worker.lingered = True
                # Who ends all by force knows that an initializer may still run, which has no answer.
                expected = self._killing and not self.pool.has_answered(worker.lane)
                if worker.signal(signal.SIGKILL) and not expected:
                    self._lingering.append(worker.name)

    def _tell_who_lingered(self) -> None:
        names, self._lingering = self._lingering, []
        if names:
            problem = (
                f"{', '.join(names)} did not end within {self._exit_grace():g} seconds of the last call and "
                "had to be killed; an exit handler (atexit) that hangs?"
            )
            warnings.warn(problem, RuntimeWarning, stacklevel=4)

    def _end_the_greedy(self, limit: int) -> None:
        for worker in list(self.workers.values()):
            number = self.pool.call_of(worker.lane)
            if number is not None and worker.pid and _resident_memory(worker.pid) > limit:
                self._kill_worker(worker, number, "memory")

    def _end_all(self) -> None:
        """Nothing begins any more; what has not ended in time is ended."""
        for future in self.withdraw_all():
            future._end_cancelled()
        self._stop_calls()
        if self._kill_at <= time.monotonic():
            self._kill_at = math.inf
            for worker in list(self.workers.values()):
                # One that is to end has its time for that.
                if self.pool.call_of(worker.lane) is None and not worker.told_to_end:
                    worker.signal(signal.SIGKILL)

    def _kill_worker(self, worker: Worker, number: int, reason: str) -> None:
        """Kill a worker that is at this call, and at no other then."""
        if not self.pool.isolate(worker.lane, number):
            return
        with self._signalling:
            if worker.stopping is not None and worker.stopping.number == number and reason != "memory":
                reason = worker.stopping.reason
            # Once is enough: what follows is its end.
            worker.stopping = Stopping(number, reason, math.inf)
        worker.signal(signal.SIGKILL)

    def _take_reason(self, number: int) -> str | None:
        """Why this call was asked to stop, if it was; it has ended."""
        with self._signalling:
            for worker in list(self.workers.values()):
                if worker.stopping is not None and worker.stopping.number == number:
                    reason, worker.stopping = worker.stopping.reason, None
                    return reason
        return None


def _resident_memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
