"""Workers that are processes: starting them, stopping a call, and what follows from a worker's end.

What happens for every call is in the core (`_motet.Pool`); here is the thread that runs it and decides on the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from . import zygote as zygotes
from . import errors
from .functions import FunctionTable
from .shipping import dump_call, load_result
from .travelling_errors import load_exception
from .worker import STOP_SIGNAL, Setup

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture

# Seconds that a call has to end after it was asked to.
GRACE = 1.0
# A call that has taken so many workers with it is not tried again.
POISON_LIMIT = 3
# Seconds between two looks at how much memory workers use.
MEMORY_INTERVAL = 0.1


class Worker:
    """A worker process as its parent sees it."""

    def __init__(self, lane: int, name: str) -> None:
        self.lane = lane
        self.name = name
        self.pid = 0
        self.process = -1
        self.gone = False
        self.ended: zygotes.Ended | None = None
        self.stopping: Stopping | None = None


class Stopping(NamedTuple):
    """A call that was asked to stop: why, and until when it has time to."""

    number: int
    reason: str
    until: float


class ProcessWorkers:
    """Worker processes, and the thread that looks after them."""

    def __init__(self, count: int, setup: Setup, preload: tuple[str, ...], name: str, strict: bool) -> None:
        self.count = count
        self.pool = _motet.Pool(self, load_result)
        self.workers: dict[int, Worker] = {}
        self.broken: BaseException | None = None
        self.thread: threading.Thread | None = None
        self._setup = pickle.dumps(setup)
        self._preload = preload
        self._name = name
        self._strict = strict
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        self._closing = False
        self._channel: socket.socket | None = None
        self._born: dict[int, Worker] = {}
        self._by_process: dict[int, Worker] = {}
        self._outputs: dict[int, Output] = {}
        self._restarts = 0
        self._functions = FunctionTable()

    # ---- called by the executor, from any thread ----

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call."""
        entry = self._functions.enter(function)
        if entry.number == 0:
            arguments = (function, *arguments)
        outside: list[Any] = []
        data = dump_call(arguments, keywords, outside.append) or None
        timeout = None if call is None else call.options.timeout
        pool = self.pool
        try:
            future = pool.submit(entry.number, data, outside or None, timeout, call)
        except KeyError:
            pool.define(entry.number, entry.blob)
            for number in self._functions.take_forgotten():
                pool.forget(number)
            future = pool.submit(entry.number, data, outside or None, timeout, call)
        if len(self.workers) < self.count and pool.unfinished() > len(self.workers):
            self._grow()
        return future

    def close(self) -> None:
        """No more calls come: the workers end when all is done."""
        self._closing = True
        self.pool.ring()

    def kill(self, number: int, reason: str) -> bool:
        """Stop the call of this number if a worker is at it."""
        lane = self.pool.lane_of(number)
        worker = None if lane is None else self.workers.get(lane)
        return worker is not None and self._stop_call(worker, number, reason)

    def _grow(self) -> None:
        with self._lock:
            if len(self.workers) >= self.count or self.broken is not None:
                return
            self._start_worker()
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self.thread.start()
        self.pool.ring()

    # ---- workers ----

    def _connect(self) -> socket.socket:
        if self._channel is None:
            self._channel = zygotes.connect(self._preload)
            self.pool.watch_descriptor(self._channel.fileno())
        return self._channel

    def _start_worker(self) -> None:
        lane, memory, control = self.pool.add_lane()
        worker = Worker(lane, f"{self._name}-{next(self._names)}")
        output, output_end = os.pipe()
        errors, errors_end = os.pipe()
        request = zygotes.Spawn(worker.name, sys.path, sys.argv, os.getcwd(), dict(os.environ), self._setup)
        descriptors = [memory, self.pool.bell(), control, output_end, errors_end]
        try:
            zygotes.send(self._connect(), request, descriptors)
        finally:
            for descriptor in (output_end, errors_end, control):
                os.close(descriptor)
        self.workers[lane] = worker
        for descriptor, stream in ((output, "stdout"), (errors, "stderr")):
            self._outputs[descriptor] = Output(descriptor, stream)
            self.pool.watch_descriptor(descriptor)

    def _stop_call(self, worker: Worker, number: int, reason: str) -> bool:
        if worker.stopping is not None and worker.stopping.number == number:
            return True
        if worker.process < 0 or not self.pool.ask_to_stop(worker.lane, number):
            return False
        worker.stopping = Stopping(number, reason, time.monotonic() + GRACE)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker.process, STOP_SIGNAL)
        self.pool.ring()
        return True

    # ---- the thread ----

    def _run(self) -> None:
        while not self._is_over():
            ready, overdue = self.pool.run(self._patience())
            for descriptor in ready:
                if descriptor in self._outputs:
                    self._read_output(descriptor)
                elif descriptor in self._by_process:
                    self._bury(self._by_process[descriptor])
                elif self._channel is not None and descriptor == self._channel.fileno():
                    self._hear()
            for lane, number in overdue:
                worker = self.workers.get(lane)
                if worker is not None:
                    self._stop_call(worker, number, "timeout")
            self._end_the_stubborn()
            if self._closing and self.pool.unfinished() == 0:
                for worker in self.workers.values():
                    if not worker.gone:
                        worker.gone = self.pool.stop_lane(worker.lane)
        self._clean_up()

    def _is_over(self) -> bool:
        return self._closing and not self.workers and self.pool.unfinished() == 0

    def _patience(self) -> float | None:
        deadlines = [worker.stopping.until for worker in self.workers.values() if worker.stopping]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _end_the_stubborn(self) -> None:
        now = time.monotonic()
        for worker in self.workers.values():
            if worker.stopping is None:
                continue
            if self.pool.lane_of(worker.stopping.number) != worker.lane:
                worker.stopping = None
            elif worker.stopping.until <= now:
                worker.stopping = worker.stopping._replace(until=now + 3600)
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker.process, signal.SIGKILL)

    def _hear(self) -> None:
        """Take a message of the zygote's."""
        assert self._channel is not None
        try:
            message, descriptors = zygotes.receive(self._channel)
        except zygotes.Closed:
            self._lose_zygote()
            return
        if isinstance(message, zygotes.Born):
            # In the order of the requests.
            worker = next(worker for worker in self.workers.values() if worker.process < 0)
            worker.pid, worker.process = message.pid, descriptors[0]
            self._born[message.pid] = worker
            self._by_process[worker.process] = worker
            self.pool.watch_descriptor(worker.process)
        elif isinstance(message, zygotes.Ended):
            worker = self._born.pop(message.pid)
            worker.ended = message
            self._settle(worker)

    def _bury(self, worker: Worker) -> None:
        """A worker has ended; what it ended of is told by the zygote, in a moment."""
        self.pool.forget_descriptor(worker.process)
        del self._by_process[worker.process]
        os.close(worker.process)

    def _lose_zygote(self) -> None:
        assert self._channel is not None
        self.pool.forget_descriptor(self._channel.fileno())
        self._channel.close()
        self._channel = None
        for worker in list(self.workers.values()):
            worker.ended = zygotes.Ended(worker.pid, -signal.SIGKILL, 0)
            self._settle(worker)

    def _settle(self, worker: Worker) -> None:
        """Decide on what a dead worker has left."""
        ended = worker.ended
        assert ended is not None
        del self.workers[worker.lane]
        # All that it has answered is delivered before its lane goes.
        self.pool.run(0)
        left = self.pool.remove_lane(worker.lane)
        if left is not None:
            self._lost(worker, ended, *left)
        if self.broken is not None:
            self._break()
        elif not (self._closing and self.pool.unfinished() == 0):
            self._restarts += 1
            with self._lock:
                if len(self.workers) < min(self.count, self.pool.unfinished()):
                    self._start_worker()

    def _lost(self, worker: Worker, ended: zygotes.Ended, number: int, call: Call | None) -> None:
        """Decide what becomes of the call that a worker died with."""
        stopping = worker.stopping
        if stopping is not None and stopping.number == number and stopping.reason != "memory":
            self._was_stopped(number, call, stopping.reason)
            return
        if call is not None:
            call.deaths += 1
            if call.may_try_again() and call.deaths < POISON_LIMIT:
                self.pool.queue_again(number)
                return
        error = _worker_died(call, worker, ended, stopping is not None)
        if self._strict:
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
        for future in self.pool.withdraw_all():
            with contextlib.suppress(InvalidStateError):
                future.set_exception(self.broken)

    def _read_output(self, descriptor: int) -> None:
        output = self._outputs[descriptor]
        if not output.read():
            self.pool.forget_descriptor(descriptor)
            del self._outputs[descriptor]
            os.close(descriptor)

    def _clean_up(self) -> None:
        for descriptor in list(self._outputs):
            while descriptor in self._outputs:
                self._read_output(descriptor)
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # ---- called by the core, from the thread ----

    def stopped(self, number: int, call: Call | None) -> None:
        """A call has ended because it was asked to."""
        reason = "timeout"
        for worker in self.workers.values():
            if worker.stopping is not None and worker.stopping.number == number:
                reason, worker.stopping = worker.stopping.reason, None
        self._was_stopped(number, call, reason)

    def raised(self, number: int, call: Call | None, data: bytes) -> None:
        """A call has raised."""
        error = load_exception(data)
        if call is not None and isinstance(error, Exception) and call.may_try_again():
            self.pool.queue_again(number)
        else:
            self.pool.finish_failed(number, error)

    def initializer_failed(self, lane: int, data: bytes) -> None:
        """A worker could not begin."""
        if self.broken is None:
            self.broken = errors.InitializerFailed("the initializer of a worker raised; no call can run")
            self.broken.__cause__ = load_exception(data)
        self._break()


def _worker_died(
    call: Call | None, worker: Worker, ended: zygotes.Ended, too_large: bool
) -> errors.WorkerDied:
    what = str(call) if call is not None else "a call"
    if too_large:
        how = "was killed because it used more memory than its limit"
    elif ended.status < 0:
        how = f"was killed by {signal.Signals(-ended.status).name}"
    else:
        how = f"ended with exit code {ended.status}"
    memory = f", having used {ended.largest_memory / 2**20:.0f} MiB at most" if ended.largest_memory else ""
    error = errors.WorkerDied(f"the worker {worker.name} (process {worker.pid}) {how} while it ran {what}{memory}")
    error.call = what
    error.exit_code = ended.status
    error.largest_memory = ended.largest_memory
    return error


class Output:
    """What a worker prints: passed on in whole lines."""

    def __init__(self, descriptor: int, stream: str) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._begun = b""

    def read(self) -> bool:
        """Pass on what is there; false at the end."""
        data = os.read(self._descriptor, 65536)
        whole, newline, rest = (self._begun + data).rpartition(b"\n")
        if not data:
            whole, newline, rest = self._begun, b"", b""
        self._begun = rest
        if whole or newline:
            stream = getattr(sys, self._stream)
            with contextlib.suppress(Exception):
                stream.write((whole + newline).decode(errors="backslashreplace"))
                stream.flush()
        return bool(data)
