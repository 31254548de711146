"""The zygote: a fresh interpreter with one thread, from which worker processes are forked.

It imports what workers want once, so that a worker costs a fork, and knows nothing of calls. It ends when the
process that started it does, however that ends, and its workers end with it, by the kernel's word.

One main socket comes from the process that started it; each pool sends a socket of its own over that. A pool
that closes its socket has its workers killed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys

from .zygote_messages import Born, Closed, Ended, Signal, Spawn, receive, send

# Libraries for linear algebra start threads as they are imported, and a fork would keep none of them.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# These end a worker, but not the zygote.
FOR_WORKERS = (signal.SIGTERM, signal.SIGHUP)


class _Zygote:
    def __init__(self, main: socket.socket, parent: int) -> None:
        self.main = main
        self.parent = parent
        self.poll = select.poll()
        self.poll.register(main, select.POLLIN)
        self.poll.register(parent, select.POLLIN)
        self.pools: dict[int, socket.socket] = {}
        # By the descriptor of the process: its number, its lane, its pool's descriptor (-1: gone).
        self.workers: dict[int, tuple[int, int, int]] = {}

    def run(self) -> None:
        """Serve until the process that started this one ends."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.parent or (descriptor == self.main.fileno() and not self.take_pool()):
                    self.kill_all()
                    return
                if descriptor == self.main.fileno():
                    continue
                if descriptor in self.workers:
                    self.bury(descriptor)
                elif descriptor in self.pools:
                    self.serve(descriptor)

    def take_pool(self) -> bool:
        try:
            _, (descriptor,) = receive(self.main)
        except Closed:
            return False
        channel = socket.socket(fileno=descriptor)
        self.pools[channel.fileno()] = channel
        self.poll.register(channel, select.POLLIN)
        return True

    def serve(self, pool: int) -> None:
        try:
            request, descriptors = receive(self.pools[pool])
        except Closed:
            self.poll.unregister(pool)
            self.pools.pop(pool).close()
            for worker, (pid, lane, owner) in self.workers.items():
                if owner == pool:
                    signal.pidfd_send_signal(worker, signal.SIGKILL)
                    self.workers[worker] = (pid, lane, -1)
            return
        if isinstance(request, Signal):
            for worker, (pid, _, owner) in self.workers.items():
                if (pid, owner) == (request.pid, pool):
                    signal.pidfd_send_signal(worker, request.number)
            return
        self.fork(pool, request, descriptors)

    def fork(self, pool: int, request: Spawn, descriptors: list[int]) -> None:
        if len(descriptors) < request.descriptors:
            self.refuse(pool, request, descriptors, "the process that forks workers has no descriptors left")
            return
        if request.authentication is not None:
            # Before the fork, so that it is done once.
            importlib.import_module("multiprocessing.process")
        this = os.getpid()
        # What its parent sends to a worker that has just been born waits until it means what it should.
        signal.pthread_sigmask(signal.SIG_BLOCK, FOR_WORKERS)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)
            self.refuse(pool, request, descriptors, str(error))
            return
        if pid == 0:
            status = 1
            try:
                for number in FOR_WORKERS:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)
                self.leave()
                from motet._executor import worker

                status = worker.main(request, descriptors, this)
            finally:
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)
        try:
            # Until it is waited for, nobody else can have its number.
            process = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.refuse(pool, request, descriptors, str(error))
            return
        for descriptor in descriptors:
            os.close(descriptor)
        # For those to come: the first is waited for, and may not need it.
        importlib.import_module("motet._executor.log_records")
        self.workers[process] = (pid, request.lane, pool)
        self.poll.register(process, select.POLLIN)
        with contextlib.suppress(Closed):
            send(self.pools[pool], Born(request.lane, pid), [process])

    def refuse(self, pool: int, request: Spawn, descriptors: list[int], problem: str) -> None:
        """Say that there is no such worker."""
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(Closed):
            send(self.pools[pool], Ended(request.lane, 1, 0, problem))

    def kill_all(self) -> None:
        """End the workers with what they have started; the kernel alone would end the workers only.

        Who sees the zygote's end, such as that of a pipe that it holds, finds no worker any more.
        """
        for process, (pid, _, _) in self.workers.items():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            # One that has just been born has no group of its own yet.
            signal.pidfd_send_signal(process, signal.SIGKILL)
        for pid, _, _ in self.workers.values():
            os.waitpid(pid, 0)

    def leave(self) -> None:
        """In the child: let go of what is the zygote's."""
        self.main.close()
        os.close(self.parent)
        for channel in self.pools.values():
            channel.close()
        for process in self.workers:
            os.close(process)

    def bury(self, process: int) -> None:
        pid, lane, pool = self.workers.pop(process)
        self.poll.unregister(process)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        # What it has started belongs to its group, which exists as long as it has not been waited for.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        os.close(process)
        if pool in self.pools:
            ended = Ended(lane, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
            with contextlib.suppress(Closed):
                send(self.pools[pool], ended)


def main(descriptor: int, parent: int, preload: list[str]) -> None:
    """Be a zygote. `descriptor` is its main socket, `parent` the number of the process that started it."""
    # Nothing here is for a terminal's keys or for those who end a service: the parent's end is what counts.
    for number in (signal.SIGINT, *FOR_WORKERS):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=descriptor)
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() != parent:
        return
    given = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    importlib.import_module("motet._executor.worker")
    for name in preload:
        # A module that cannot be imported is told of by the first call that wants it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for name, value in given.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    gc.collect()
    # Workers share these pages as long as no collector writes to them.
    gc.freeze()
    sys.stdout.flush()
    # Named, so that it lives to the end: sockets of pools that are let go of would warn.
    zygote = _Zygote(channel, watched)
    zygote.run()
    # Its workers end with it; there is nothing to tidy up.
    os._exit(0)
