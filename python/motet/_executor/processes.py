"""Workers that are processes, as their executor sees them, and the thread that looks after them.

What happens for every call is in the core (`_motet.Pool`); here is the thread that runs it and decides on
the rest, over three layers: births (`crew.py`), stopping a call (`stopping.py`), deaths (`endings.py`). The
death of a worker is told by the zygote, which watches it by a descriptor; the death of the zygote, and with
it of all its workers, by the end of its socket.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from motet import _motet

from . import errors, measuring
from .crew import Settings
from .endings import MortalCrew
from .functions import FunctionTable
from .shipping import dump_call, load_result
from .worker import STOP_SIGNAL
from .worker_process import Worker
from .zygote_messages import Closed, Ended, receive

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture

__all__ = ["ProcessWorkers", "Settings"]

# Seconds that the birth of a worker may take, at the most, for those who wait for it.
PATIENCE = 30.0
# How long the main thread sleeps at a time, in seconds.
SLICE = 0.2

# Those with work to do; also when nobody knows their executor any more.
_busy: set[ProcessWorkers] = set()


class ProcessWorkers(MortalCrew):
    """Worker processes, and the thread that looks after them."""

    # Whether functions travel to the workers.
    ships = True

    def __init__(self, settings: Settings) -> None:
        # It calls back only while this has work to do; a strong reference would make a cycle that stays.
        pool = _motet.Pool(weakref.proxy(self), load_result, settings.calls_per_worker or 0)
        super().__init__(settings, pool)
        self.thread: threading.Thread | None = None
        self._functions = FunctionTable()
        self._closing = False

    # ---- called by the executor, from any thread ----

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
        record: Callable[[bytes], object] | None = None,
    ) -> CallFuture[Any]:
        """Queue a call. With `record` it is measured: that is called with its `measuring.Costs`, dumped.

        Raises what keeps it from being sent: `NotShippable`, `ArgumentTooLarge`, `ArenaFull`.
        """
        entry = self._functions.enter(function)
        if entry.carried:
            arguments = (function, *arguments)
        outside: list[Any] = []
        data = dump_call(arguments, keywords, outside.append) or None
        timeout = None if call is None else call.options.timeout
        pool = self.pool
        function_number = entry.number
        if record is not None:
            function_number |= measuring.MARK
            self._record = record
        try:
            future: CallFuture[Any] = pool.submit(function_number, data, outside or None, timeout, call)
        except KeyError:
            pool.define(function_number, entry.blob if record is None else measuring.measured(entry.blob))
            for number in self._functions.take_forgotten():
                pool.forget(number)
                pool.forget(number | measuring.MARK)
            future = pool.submit(function_number, data, outside or None, timeout, call)
        if len(self.workers) < self.settings.workers and pool.unfinished() > len(self.workers):
            try:
                self._grow()
            except (OSError, RuntimeError, errors.MotetError):
                # With fewer workers than wanted it takes longer.
                if not self.workers and future.cancel():
                    raise
        if self._closing:
            # The last call is another one now.
            pool.close()
        if self.broken is not None:
            # It broke meanwhile, and nobody would come across this call.
            self._break()
        return future

    def close(self) -> None:
        """No more calls come: the workers end when all is done."""
        self._closing = True
        self.pool.close()

    def join(self) -> None:
        """Wait until all is done and the workers have ended; after `close`.

        Warns of workers that had to be killed because their exit handlers did not end.
        """
        thread, here = self.thread, threading.current_thread()
        if thread is not None and thread is not here:
            # A signal that comes as a sleep begins is seen after it, so the main thread sleeps little.
            while thread.is_alive():
                thread.join(SLICE if here is threading.main_thread() else None)
        self._tell_who_lingered()

    def end_by_force(self) -> None:
        """Take no more calls, and try none again."""
        if self.broken is None:
            self.broken = errors.WorkerDied("the workers of this pool were ended by force")

    def born(self) -> dict[int, Worker]:
        """The workers by process number; waits for those that were asked for."""
        workers = list(self.workers.values())
        if threading.current_thread() is not self.thread:
            for worker in workers:
                worker.wait_born(PATIENCE)
        return {worker.pid: worker for worker in workers if worker.pid}

    def unfinished(self) -> int:
        """Calls that have not ended."""
        return self.pool.unfinished()

    def statistics(self) -> dict[str, Any]:
        """Counts of calls, of bytes that were copied or shared, and of workers."""
        found = self.pool.statistics()
        work, now = found.pop("lanes"), time.monotonic()
        rows = []
        for worker in sorted(self.workers.copy().values(), key=lambda worker: worker.place):
            finished, busy_nanos = work.get(worker.lane, (0, 0))
            # It may have been born since.
            age = max(0.0, now - worker.born_at) if worker.pid else 0.0
            row = {
                "name": worker.name,
                "pid": worker.pid,
                "finished": finished,
                "busy_share": min(1.0, busy_nanos / 1e9 / age) if age else 0.0,
                "restarts": self.restarts[worker.place],
            }
            rows.append(row)
        return {
            **found,
            "workers": len(rows),
            "restarts": self.restarts.total(),
            "per_worker": rows,
        }

    def _grow(self) -> None:
        with self._lock:
            # On its end the thread looks at this under the lock too.
            if len(self.workers) >= self.settings.workers or self.broken is not None:
                return
            if self._inherited is None and self.settings.inherited is not None:
                # Kept until the end, which the executor itself may not live to see.
                self._inherited = self.settings.inherited()
            if self.thread is None:
                self._start_thread()
            self._start_worker()
        self.pool.ring()

    def _start_thread(self) -> None:
        # With the lock held, without which it begins nothing.
        self.thread = threading.Thread(target=self._run, name=self.settings.name, daemon=True)
        _busy.add(self)
        try:
            self.thread.start()
        except RuntimeError:
            # The system has no more threads to give.
            self.thread = None
            _busy.discard(self)
            raise

    # ---- the thread ----

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._turn()
        except errors.MotetError as error:
            self.broken = error
            self._break()
        except BaseException as error:
            self.broken = errors.InternalError(
                f"the thread of an executor failed: {error!r}; please report it"
            )
            self.broken.__cause__ = error
            self._break()
        finally:
            self._clean_up()
            _busy.discard(self)

    def _is_over(self) -> bool:
        with self._lock:
            over = self._closing and not self.workers and self.pool.unfinished() == 0
            if over:
                self.thread = None
            return over

    def _turn(self) -> None:
        ready, overdue = self.pool.run(self._patience())
        for descriptor in ready:
            if descriptor in self._outputs:
                self._read_output(descriptor)
            else:
                self._hear(descriptor)
        for lane, number in overdue:
            worker = self.workers.get(lane)
            if worker is not None:
                self._stop_call(worker, number, "timeout")
        if self._signals:
            self._send_signals()
        self._bury_orphans()
        self._end_the_stubborn()
        self._end_the_lingering()
        if self._killing:
            self._end_all()
        if self.settings.calls_per_worker is not None:
            self._retire()
        if self.settings.memory_limit is not None:
            self._end_the_greedy(self.settings.memory_limit)
        if self._closing and self.pool.unfinished() == 0:
            for worker in list(self.workers.values()):
                if not worker.told_to_end:
                    worker.told_at = time.monotonic()
                    self.pool.stop_lane(worker.lane)
        elif len(self.workers) < min(self.settings.workers, self.pool.unfinished()):
            self._replace()

    def _hear(self, descriptor: int) -> None:
        """Take a message of the zygote's, if this descriptor still is its channel's."""
        # Locked, so that nobody closes the channel meanwhile. A message that has begun is there at once.
        with self._lock:
            channel = self._channel
            if channel is None or channel.fileno() != descriptor:
                return
            try:
                message, descriptors = receive(channel)
            except Closed:
                self._drop_channel()
                return
        worker = self.workers[message.lane]
        if isinstance(message, Ended):
            self._settle(worker, message)
            return
        worker.begin(message.pid, descriptors[0] if descriptors else -1)
        if worker.stopping is not None:
            # It has been asked before its number was known.
            worker.signal(STOP_SIGNAL)

    def _clean_up(self) -> None:
        # All of it is there: the workers have ended. What they have left running may hold the other ends.
        for descriptor, output in self._outputs.items():
            self.pool.forget_descriptor(descriptor)
            output.read_rest()
            os.close(descriptor)
        self._outputs.clear()
        with self._lock:
            self._drop_channel()
        # Only after a failure of this thread.
        for worker in list(self.workers.values()):
            with self._lock:
                del self.workers[worker.lane]
            for number, _ in self.pool.remove_lane(worker.lane):
                if self.broken is not None:
                    self.pool.finish_failed(number, self.broken)
            worker.end(-signal.SIGKILL)
        if self.broken is not None:
            self._break()
        self._inherited = None


def hurry_up() -> None:
    """The interpreter exits: no worker's exit handlers hold it up for ever."""
    for workers in list(_busy):
        workers.hurry_up()


def _finish_all() -> None:
    """At the interpreter's exit: also executors that the program has let go of do what they were given."""
    interrupted = getattr(sys, "last_type", None)
    hurry = interrupted is not None and issubclass(interrupted, KeyboardInterrupt)
    hurry_up()
    for workers in list(_busy):
        workers.close()
        if hurry:
            workers.kill_all()
    for workers in list(_busy):
        workers.join()


def _forget_all() -> None:
    """In a forked child: the work is the parent's."""
    _busy.clear()


# Before the interpreter waits for threads; and after executors that are known have been told.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_forget_all)
