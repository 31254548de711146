"""Workers that are processes: starting them, stopping a call, and what follows from a worker's end.

What happens for every call is in the core (`_motet.Pool`); here is the thread that runs it and decides on the
rest. The death of a worker is told by the zygote, which watches it by a descriptor; the death of the zygote,
and with it of all its workers, by the end of its socket.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from . import errors
from . import zygote as zygotes
from .functions import FunctionTable
from .output import Output
from .shipping import dump_call, load_result
from .travelling_errors import load_exception
from .worker import STOP_SIGNAL
from .worker_process import Stopping, Worker

if TYPE_CHECKING:
    import socket
    import weakref
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture
    from .starting import Descriptors

# Seconds that a call has to end after it was asked to.
GRACE = 1.0
# Seconds that the birth of a worker may take, at the most, for those who wait for it.
PATIENCE = 30.0
# A call that has taken so many workers with it is not tried again.
POISON_LIMIT = 3
# Seconds between two looks at how much memory workers use.
MEMORY_INTERVAL = 0.1
# So many workers in a row that end before their first answer, and the pool is broken.
STILLBORN_LIMIT = 10

# Those with work to do; also when nobody knows their executor any more.
_busy: set[ProcessWorkers] = set()


class Settings(NamedTuple):
    """How worker processes are to be.

    `setup` is a pickled `worker.Setup`, `inherited` what its initializer needs, and the executor keeps;
    `memory_limit` is in bytes.
    """

    workers: int
    setup: bytes
    preload: tuple[str, ...] = ()
    name: str = "motet"
    strict: bool = False
    memory_limit: int | None = None
    calls_per_worker: int | None = None
    tag_output: bool = False
    inherited: weakref.ref[Descriptors] | None = None


class ProcessWorkers:
    """Worker processes, and the thread that looks after them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # It calls back only while this has work to do; a strong reference would make a cycle that stays.
        self.pool = _motet.Pool(weakref.proxy(self), load_result, settings.calls_per_worker or 0)
        # By lane. Changed with the lock held; iterated over as a copy.
        self.workers: dict[int, Worker] = {}
        self.broken: BaseException | None = None
        self.thread: threading.Thread | None = None
        self.restarts = 0
        self._functions = FunctionTable()
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        # Held while a worker's `stopping` is looked at and changed; signal handlers may cancel.
        self._signalling = threading.RLock()
        self._closing = False
        # All is to end, and at this time by force.
        self._killing = False
        self._kill_at = math.inf
        self._stillborn = 0
        self._channel: socket.socket | None = None
        self._inherited: Descriptors | None = None
        self._outputs: dict[int, Output] = {}

    # ---- called by the executor, from any thread ----

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call.

        Raises what keeps it from being sent: `NotShippable`, `ArgumentTooLarge`, `ArenaFull`.
        """
        entry = self._functions.enter(function)
        if entry.number == 0:
            arguments = (function, *arguments)
        outside: list[Any] = []
        data = dump_call(arguments, keywords, outside.append) or None
        timeout = None if call is None else call.options.timeout
        pool = self.pool
        try:
            future: CallFuture[Any] = pool.submit(entry.number, data, outside or None, timeout, call)
        except KeyError:
            pool.define(entry.number, entry.blob)
            for number in self._functions.take_forgotten():
                pool.forget(number)
            future = pool.submit(entry.number, data, outside or None, timeout, call)
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
        """Wait until all is done and the workers have ended; after `close`."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

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
        for worker in list(self.workers.values()):
            number = self.pool.call_of(worker.lane)
            if number is not None:
                self._stop_call(worker, number, "cancel")
        self.pool.ring()

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
        return {**found, "workers": len(self.workers), "restarts": self.restarts}

    def _grow(self) -> None:
        with self._lock:
            # On its end the thread looks at this under the lock too.
            if len(self.workers) >= self.settings.workers or self.broken is not None:
                return
            if self._inherited is None and self.settings.inherited is not None:
                # Kept until the end, which the executor itself may not live to see.
                self._inherited = self.settings.inherited()
            self._start_worker()
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name=self.settings.name, daemon=True)
                _busy.add(self)
                self.thread.start()
        self.pool.ring()

    # ---- workers ----

    def _start_worker(self) -> None:
        for _ in range(2):
            try:
                return self._request_worker()
            except zygotes.Closed:
                # The zygote has been killed.
                self._drop_channel()
        raise errors.MotetError(
            "the process that forks workers was killed as it began; is there enough memory?"
        )

    def _request_worker(self) -> None:
        if self._channel is None:
            self._channel = zygotes.connect(self.settings.preload)
            self.pool.watch_descriptor(self._channel.fileno())
        lane, memory, control = self.pool.add_lane()
        worker = Worker(lane, f"{self.settings.name}-{next(self._names)}")
        output, output_end = os.pipe()
        problems, problems_end = os.pipe()
        request = zygotes.Spawn.of_this_process(lane, worker.name, self.settings.setup)
        self.workers[lane] = worker
        try:
            descriptors = [memory, self.pool.bell(), control, output_end, problems_end]
            if self._inherited is not None:
                descriptors += self._inherited.numbers
            zygotes.send(self._channel, request, descriptors)
        except BaseException:
            del self.workers[lane]
            self.pool.remove_lane(lane)
            os.close(output)
            os.close(problems)
            raise
        finally:
            for descriptor in (output_end, problems_end, control):
                os.close(descriptor)
        tag = f"[{worker.name}] " if self.settings.tag_output else ""
        for descriptor, stream in ((output, "stdout"), (problems, "stderr")):
            self._outputs[descriptor] = Output(descriptor, stream, tag)
            self.pool.watch_descriptor(descriptor)

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self.pool.forget_descriptor(self._channel.fileno())
            self._channel.close()
            self._channel = None
            # The thread sees to what they leave.
            for worker in self.workers.values():
                worker.orphaned = True
            self.pool.ring()

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
        self._bury_orphans()
        self._end_the_stubborn()
        if self._killing:
            self._end_all()
        if self.settings.memory_limit is not None:
            self._end_the_greedy(self.settings.memory_limit)
        if self._closing and self.pool.unfinished() == 0:
            for worker in list(self.workers.values()):
                if not worker.told_to_end:
                    worker.told_to_end = True
                    self.pool.stop_lane(worker.lane)
        elif len(self.workers) < min(self.settings.workers, self.pool.unfinished()):
            self._replace()

    def _patience(self) -> float | None:
        """Seconds until something is to be done though nothing has happened."""
        now = time.monotonic()
        waits = [worker.stopping.until - now for worker in list(self.workers.values()) if worker.stopping]
        waits.append(self._kill_at - now)
        if self.settings.memory_limit is not None and self.pool.unfinished():
            waits.append(MEMORY_INTERVAL)
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

    def _end_the_greedy(self, limit: int) -> None:
        for worker in list(self.workers.values()):
            number = self.pool.call_of(worker.lane)
            if number is not None and worker.pid and _resident_memory(worker.pid) > limit:
                self._kill_worker(worker, number, "memory")

    def _end_all(self) -> None:
        """Nothing begins any more; what has not ended in time is ended."""
        for future in self.withdraw_all():
            future._end_cancelled()
        for worker in list(self.workers.values()):
            number = self.pool.call_of(worker.lane)
            if number is not None:
                self._stop_call(worker, number, "cancel")
        if self._kill_at <= time.monotonic():
            self._kill_at = math.inf
            for worker in list(self.workers.values()):
                if self.pool.call_of(worker.lane) is None:
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

    def _hear(self, descriptor: int) -> None:
        """Take a message of the zygote's, if this descriptor still is its channel's."""
        # Locked, so that nobody closes the channel meanwhile. A message that has begun is there at once.
        with self._lock:
            channel = self._channel
            if channel is None or channel.fileno() != descriptor:
                return
            try:
                message, descriptors = zygotes.receive(channel)
            except zygotes.Closed:
                self._drop_channel()
                return
        worker = self.workers[message.lane]
        if isinstance(message, zygotes.Ended):
            self._settle(worker, message)
            return
        worker.begin(message.pid, descriptors[0])
        if worker.stopping is not None:
            # It has been asked before its number was known.
            worker.signal(STOP_SIGNAL)

    def _bury_orphans(self) -> None:
        for worker in list(self.workers.values()):
            if worker.orphaned:
                # It dies with the zygote, but somewhat later: until then its lane is not the parent's alone.
                worker.kill_and_wait()
                self._settle(worker, zygotes.Ended(worker.lane, -signal.SIGKILL, 0))

    def _settle(self, worker: Worker, ended: zygotes.Ended) -> None:
        """Decide on what a dead worker has left."""
        # All that it has answered is delivered before its lane goes.
        self.pool.run(0)
        with self._lock:
            del self.workers[worker.lane]
        worker.end(ended.status)
        has_answered = self.pool.has_answered(worker.lane)
        left = self.pool.remove_lane(worker.lane)
        if left is not None:
            self._lose(worker, ended, *left)
        self._stillborn = 0 if has_answered or left is not None else self._stillborn + 1
        if self.broken is None:
            self.broken = worker.failure
        if self.broken is None and self.settings.strict and ended.status and not worker.told_to_end:
            self.broken = _worker_died("no call", worker, ended, False)
        if self._stillborn >= STILLBORN_LIMIT and self.broken is None and self.pool.unfinished():
            self.broken = _ends_as_it_begins(worker, ended)
        if self.broken is not None:
            self._break()
        elif not worker.told_to_end:
            self.restarts += 1

    def _replace(self) -> None:
        """Start what is missing of workers for the calls that there are."""
        with self._lock:
            # Another thread may have started one meanwhile.
            missing = len(self.workers) < min(self.settings.workers, self.pool.unfinished())
            if missing and self.broken is None:
                try:
                    self._start_worker()
                except OSError:
                    # With fewer workers than wanted it takes longer.
                    if not self.workers:
                        raise

    def _lose(self, worker: Worker, ended: zygotes.Ended, number: int, call: Call | None) -> None:
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
        error: BaseException = _worker_died(str(call or "a call"), worker, ended, too_large)
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

    def _read_output(self, descriptor: int) -> None:
        output = self._outputs[descriptor]
        if not output.read():
            self.pool.forget_descriptor(descriptor)
            del self._outputs[descriptor]
            os.close(descriptor)

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
            left = self.pool.remove_lane(worker.lane)
            if left is not None and self.broken is not None:
                self.pool.finish_failed(left[0], self.broken)
            worker.end(-signal.SIGKILL)
        if self.broken is not None:
            self._break()
        self._inherited = None

    # ---- called by the core, from the thread ----

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

    def _take_reason(self, number: int) -> str | None:
        """Why this call was asked to stop, if it was; it has ended."""
        with self._signalling:
            for worker in list(self.workers.values()):
                if worker.stopping is not None and worker.stopping.number == number:
                    reason, worker.stopping = worker.stopping.reason, None
                    return reason
        return None

    def logged(self, data: bytes) -> None:
        """A worker has logged something."""
        from .log_records import handle

        handle(data)

    def initializer_failed(self, lane: int, data: bytes) -> None:
        """A worker could not begin."""
        failure = errors.InitializerFailed("the initializer of a worker raised, so no call can run")
        failure.__cause__ = load_exception(data)
        # The pool is broken when the worker has ended: what the initializer has put into queues is there.
        worker = self.workers[lane]
        worker.failure = failure
        worker.stopping = Stopping(-1, "initializer", time.monotonic() + GRACE)


def _resident_memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _worker_died(what: str, worker: Worker, ended: zygotes.Ended, too_large: bool) -> errors.WorkerDied:
    how = "was killed because it used more memory than its limit" if too_large else _how_it_ended(ended)
    memory = f", having used {ended.largest_memory / 2**20:.0f} MiB at most" if ended.largest_memory else ""
    error = errors.WorkerDied(
        f"the worker {worker.name} (process {worker.pid}) {how} while it ran {what}{memory}"
    )
    error.call = what
    error.exit_code = ended.status
    error.largest_memory = ended.largest_memory
    return error


def _ends_as_it_begins(worker: Worker, ended: zygotes.Ended) -> errors.WorkerDied:
    error = errors.WorkerDied(
        f"the workers end before their first call; the last one, {worker.name}, {_how_it_ended(ended)}"
    )
    error.exit_code = ended.status
    error.largest_memory = ended.largest_memory
    return error


def _how_it_ended(ended: zygotes.Ended) -> str:
    if ended.problem:
        return f"could not be made: {ended.problem}"
    if ended.status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-ended.status).name}"
        return f"was killed by signal {-ended.status}"
    return f"ended with exit code {ended.status}"


def _finish_all() -> None:
    """At the interpreter's exit: also executors that the program has let go of do what they were given."""
    interrupted = getattr(sys, "last_type", None)
    hurry = interrupted is not None and issubclass(interrupted, KeyboardInterrupt)
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
