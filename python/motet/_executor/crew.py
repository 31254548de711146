"""The worker processes of a pool, and how there come to be more of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from . import errors, zygotes
from .output import Output
from .worker_process import Worker
from .zygote_messages import Closed, Signal, Spawn, send

if TYPE_CHECKING:
    import socket
    import weakref

    from motet import _motet

    from .starting import Descriptors


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


class Crew:
    """Worker processes, their zygote's socket, and what they print.

    `broken` is why no call runs any more, if none does.
    """

    def __init__(self, settings: Settings, pool: _motet.Pool) -> None:
        self.settings = settings
        self.pool = pool
        # By lane. Changed with the lock held; iterated over as a copy.
        self.workers: dict[int, Worker] = {}
        self.broken: BaseException | None = None
        self._lock = threading.Lock()
        self._names = itertools.count(1)
        self._channel: socket.socket | None = None
        # That of the zygote, its workers, and what these start.
        self._session = 0
        self._inherited: Descriptors | None = None
        self._outputs: dict[int, Output] = {}
        # Which the zygote is to send; the thread tells it, so that no two messages mix.
        self._signals: deque[Signal] = deque()

    def _start_worker(self) -> None:
        for _ in range(2):
            try:
                return self._request_worker()
            except Closed:
                # The zygote has been killed.
                self._drop_channel()
        raise errors.MotetError(
            "the process that forks workers was killed as it began; is there enough memory?"
        )

    def _request_worker(self) -> None:
        if self._channel is None:
            self._channel, self._session = zygotes.connect(self.settings.preload)
            self.pool.watch_descriptor(self._channel.fileno())
        with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
            (output, output_end), (problems, problems_end) = _pipe(kept, given), _pipe(kept, given)
            lane, memory, control = self.pool.add_lane()
            given.callback(os.close, control)
            kept.callback(self.pool.remove_lane, lane)
            taken = {worker.place for worker in self.workers.values()}
            place = next(place for place in itertools.count() if place not in taken)
            worker = Worker(lane, f"{self.settings.name}-{next(self._names)}", place, self._ask_zygote)
            descriptors = [memory, self.pool.bell(), control, output_end, problems_end]
            if self._inherited is not None:
                descriptors += self._inherited.numbers
            request = Spawn.of_this_process(lane, worker.name, self.settings.setup, len(descriptors))
            # The answer may be there before `send` returns.
            self.workers[lane] = worker
            kept.callback(self.workers.pop, lane)
            send(self._channel, request, descriptors)
            kept.pop_all()
        tag = f"[{worker.name}] " if self.settings.tag_output else ""
        for descriptor, stream in ((output, "stdout"), (problems, "stderr")):
            self._outputs[descriptor] = Output(descriptor, stream, tag)
            self.pool.watch_descriptor(descriptor)

    def _ask_zygote(self, request: Signal) -> None:
        self._signals.append(request)
        self.pool.ring()

    def _send_signals(self) -> None:
        with self._lock, contextlib.suppress(IndexError):
            while self._channel is not None:
                # One that is gone has taken its workers along, and its channel is about to be dropped.
                with contextlib.suppress(Closed):
                    send(self._channel, self._signals.popleft())
            self._signals.clear()

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self.pool.forget_descriptor(self._channel.fileno())
            self._channel.close()
            self._channel = None
            # The thread sees to what they leave.
            for worker in self.workers.values():
                worker.orphan_of = self._session
            self.pool.ring()

    def _replace(self) -> None:
        """Start what is missing of workers for the calls that there are."""
        with self._lock:
            # Another thread may have started one meanwhile.
            missing = len(self.workers) < min(self.settings.workers, self.pool.unfinished())
            if missing and self.broken is None:
                try:
                    self._start_worker()
                except OSError as error:
                    # With fewer workers than wanted it takes longer.
                    if not self.workers:
                        raise errors.MotetError(f"no worker could be started: {error}") from error

    def _read_output(self, descriptor: int) -> None:
        output = self._outputs[descriptor]
        if not output.read():
            self.pool.forget_descriptor(descriptor)
            del self._outputs[descriptor]
            os.close(descriptor)


def _pipe(read: contextlib.ExitStack, write: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, each end of which is closed with its stack."""
    ends = os.pipe()
    read.callback(os.close, ends[0])
    write.callback(os.close, ends[1])
    return ends
