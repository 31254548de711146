"""What follows from the end of a call that did not return, and from that of a worker."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING

from . import errors, obituaries
from .crew import Settings
from .sessions import end_session
from .stopping import GRACE, StoppableCrew
from .travelling_errors import load_exception
from .worker_process import Stopping, Worker
from .zygote_messages import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from motet import _motet

    from .calls import Call

# A call that has taken so many workers with it is not tried again.
POISON_LIMIT = 3
# So many workers in a row that end before their first answer, and the pool is broken.
STILLBORN_LIMIT = 10


class MortalCrew(StoppableCrew):
    """Worker processes that may die, and calls that may fail.

    `restarts` counts the workers that others took the place of.
    """

    def __init__(self, settings: Settings, pool: _motet.Pool) -> None:
        super().__init__(settings, pool)
        # By the place of the worker that had to be replaced.
        self.restarts: Counter[int] = Counter()
        self._stillborn = 0
        # Who wants to know what calls cost.
        self._record: Callable[[bytes], object] | None = None

    def _bury_orphans(self) -> None:
        orphans = [worker for worker in list(self.workers.values()) if worker.orphan_of]
        for session in {worker.orphan_of for worker in orphans}:
            # With what they have started, which the zygote would have killed.
            end_session(session)
        for worker in orphans:
            # It dies with the zygote, but somewhat later: until then its lane is not the parent's alone.
            worker.kill_and_wait()
            self._settle(worker, Ended(worker.lane, -signal.SIGKILL, 0))

    def _settle(self, worker: Worker, ended: Ended) -> None:
        """Decide on what a dead worker has left."""
        # All that it has answered is delivered before its lane goes.
        self.pool.run(0)
        with self._lock:
            del self.workers[worker.lane]
        worker.end(ended.status)
        has_answered = self.pool.has_answered(worker.lane)
        left = self.pool.remove_lane(worker.lane)
        for number, call in left:
            self._lose(worker, ended, number, call)
        self._stillborn = 0 if has_answered or left else self._stillborn + 1
        if self.broken is None:
            self.broken = worker.failure
        if self.broken is None and self.settings.strict and ended.status and not worker.told_to_end:
            self.broken = obituaries.worker_died("no call", worker, ended, False)
        if self._stillborn >= STILLBORN_LIMIT and self.broken is None and self.pool.unfinished():
            self.broken = obituaries.ends_as_it_begins(worker, ended)
        if self.broken is not None:
            self._break()
        elif worker.retires or not worker.told_to_end:
            self.restarts[worker.place] += 1

    def _lose(self, worker: Worker, ended: Ended, number: int, call: Call | None) -> None:
        """Decide what becomes of the call that a worker died with."""
        stopping = worker.stopping
        if stopping is not None and stopping.number == number and stopping.reason != "memory":
            self._was_stopped(number, call, stopping.reason)
            return
        if call is not None:
            call.deaths += 1
            if self.broken is None and call.may_try_again() and call.deaths < POISON_LIMIT:
                self.pool.queue_again(number)
                return
        too_large = stopping is not None and stopping.number == number
        error: BaseException = obituaries.worker_died(str(call or "a call"), worker, ended, too_large)
        if self.settings.strict and self.broken is not None:
            # The pool's end has ended this worker: what its call is to tell is how that came.
            error = errors.fresh(self.broken)
        elif self.settings.strict:
            self.broken = error
        self.pool.finish_failed(number, error)

    def _was_stopped(self, number: int, call: Call | None, reason: str) -> None:
        if reason != "timeout" or call is None:
            self.pool.finish_cancelled(number)
        elif call.may_try_again():
            self.pool.queue_again(number)
        else:
            problem = f"{call} ran longer than {call.options.timeout:g} seconds and was stopped"
            self.pool.finish_failed(number, errors.CallTimeout(problem))

    def _break(self) -> None:
        assert self.broken is not None
        if self.settings.strict:
            # As in `concurrent.futures`, calls that run on other workers end too.
            for worker in list(self.workers.values()):
                worker.signal(signal.SIGKILL)
        for future in self.pool.withdraw_all():
            with contextlib.suppress(InvalidStateError):
                future.set_exception(errors.fresh(self.broken))

    # ---- called by the core, from the thread that delivers ----

    def stopped(self, number: int, call: Call | None) -> None:
        """A call has ended because it was asked to."""
        self._was_stopped(number, call, self._take_reason(number) or "cancel")

    def raised(self, number: int, call: Call | None, data: bytes) -> None:
        """A call has raised."""
        error = load_exception(data)
        cancelled = self._take_reason(number) == "cancel"
        if call is not None and not cancelled and isinstance(error, Exception) and call.may_try_again():
            self.pool.queue_again(number)
        else:
            self.pool.finish_failed(number, error)

    def logged(self, data: bytes) -> None:
        """A worker has logged something."""
        from .log_records import handle

        handle(data)

    def measured(self, costs: bytes) -> None:
        """A worker has measured a call."""
        if self._record is not None:
            self._record(costs)

    def initializer_failed(self, lane: int, data: bytes) -> None:
        """A worker could not begin."""
        failure = errors.InitializerFailed("the initializer of a worker raised, so no call can run")
        failure.__cause__ = load_exception(data)
        # The pool is broken when the worker has ended: what the initializer has put into queues is there.
        worker = self.workers[lane]
        worker.failure = failure
        worker.stopping = Stopping(-1, "initializer", time.monotonic() + GRACE)
