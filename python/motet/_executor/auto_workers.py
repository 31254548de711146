"""The workers of an executor that chooses itself: processes, threads, a loop for coroutine functions."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from .coroutine_functions import is_asynchronous
from .errors import NotShippable
from .processes import ProcessWorkers, Settings
from .threads import Setup, ThreadWorkers
from .trial import Trial, Verdict, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture
    from .loop_workers import LoopWorkers

NO_GIL = Verdict("threads", "threads, because this Python runs them in parallel: it has no GIL")


def has_gil() -> bool:
    """Whether threads exclude each other now. An imported module may have seen to that."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class AutoWorkers:
    """Worker processes on trial, and what is chosen instead. Thread-safe.

    What was sent to one place stays there when another one is chosen.
    """

    ships = True

    def __init__(self, settings: Settings, tasks: int | None, reason: str | None) -> None:
        """`tasks` is how many coroutines may run at once; `reason`, if any, is why it must be processes."""
        self.settings = settings
        self.processes: ProcessWorkers | None = None
        self.threads: ThreadWorkers | None = None
        self._loop: LoopWorkers | None = None
        self._tasks = tasks
        self._coroutine_function: str | None = None
        self._trial = Trial(settings.workers)
        self._verdict: Verdict | None = None
        # Where calls go once that is known.
        self._place: ProcessWorkers | ThreadWorkers | None = None
        self._closing = False
        # Signal handlers may shut down.
        self._lock = threading.RLock()
        if reason is not None:
            self._settle(Verdict("processes", f"processes, because {reason}"))

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call. Raises what `ProcessWorkers.submit` does."""
        if is_asynchronous(function):
            return self._on_loop(function).submit(function, arguments, keywords, call)
        place = self._place
        if place is None:
            return self._try(function, arguments, keywords, call)
        return place.submit(function, arguments, keywords, call)

    def _try(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        verdict = self._trial.verdict
        if verdict is None and not has_gil():
            # Without a trial, and never for good: the next call may find a GIL.
            return self._begin_threads().submit(function, arguments, keywords, call)
        if verdict is None:
            try:
                processes = self._begin_processes()
                return self._trial.submit(processes, function, arguments, keywords, call)
            except NotShippable as error:
                problem = str(error).partition(". ")[0]
                what = f"a call of {name_of(function)}() cannot be sent to a process"
                sentence = f"threads, because {what}: {problem}"
                verdict = self._trial.decide(Verdict("threads", sentence))
        return self._settle(verdict).submit(function, arguments, keywords, call)

    def _settle(self, verdict: Verdict) -> ProcessWorkers | ThreadWorkers:
        with self._lock:
            if self._place is None:
                self._verdict = verdict
                if verdict.place == "processes":
                    self._place = self._begin_processes()
                else:
                    self._place = self._begin_threads()
                    if self.processes is not None:
                        self.processes.close()
            return self._place

    def _begin_processes(self) -> ProcessWorkers:
        with self._lock:
            if self.processes is None:
                self.processes = ProcessWorkers(self.settings)
                if self._closing:
                    self.processes.close()
            return self.processes

    def _begin_threads(self) -> ThreadWorkers:
        with self._lock:
            if self.threads is None:
                self.threads = ThreadWorkers(self.settings.workers, Setup(), self.settings.name)
                if self._closing:
                    self.threads.close()
            return self.threads

    def _on_loop(self, function: Callable[..., Any]) -> LoopWorkers:
        with self._lock:
            if self._loop is None:
                # asyncio takes long to import.
                from .loop_workers import LoopWorkers

                self._loop = LoopWorkers(self._tasks, self.settings.name)
                self._coroutine_function = name_of(function)
                if self._closing:
                    self._loop.close()
            return self._loop

    @property
    def decision(self) -> str:
        """Where calls run, and why, in one sentence."""
        verdict = self._verdict or self._trial.verdict
        if verdict is None and not has_gil():
            verdict = NO_GIL
        if self._loop is not None:
            if self._verdict is None and not self._trial.has_begun and self.threads is None:
                return f"an event loop, because {self._coroutine_function}() is a coroutine function"
            loop = "; coroutine functions run on an event loop"
        else:
            loop = ""
        if verdict is not None:
            return verdict.sentence + loop
        missing = self._trial.missing
        more = f"{missing} more calls are" if missing > 1 else "1 more call is"
        return f"processes for now, because they suit any work, until {more} measured{loop}"

    @property
    def _all(self) -> list[ProcessWorkers | ThreadWorkers | LoopWorkers]:
        return [workers for workers in (self.processes, self.threads, self._loop) if workers is not None]

    @property
    def broken(self) -> BaseException | None:
        """Why no call can run."""
        place = self._place or self.processes
        return None if place is None else place.broken

    def close(self) -> None:
        """No more calls come: the workers end when all is done."""
        with self._lock:
            self._closing = True
        for workers in self._all:
            workers.close()

    def join(self) -> None:
        """Wait until all is done and the workers have ended; after `close`."""
        for workers in self._all:
            workers.join()

    def withdraw_all(self) -> list[CallFuture[Any]]:
        """Take back the calls that have not begun: of each place, the oldest first."""
        return [future for workers in self._all for future in workers.withdraw_all()]

    def kill_all(self) -> None:
        """Stop all calls that run."""
        for workers in self._all:
            workers.kill_all()

    def unfinished(self) -> int:
        """Calls that have not ended."""
        return sum(workers.unfinished() for workers in self._all)

    def statistics(self) -> dict[str, Any]:
        """The counts of all places together."""
        found: dict[str, Any] = dict.fromkeys(("submitted", "finished", "queued", "workers"), 0)
        for workers in self._all:
            for key, value in workers.statistics().items():
                found[key] = found[key] + value if key in found else value
        return found
