"""The zygote: a fresh interpreter with one thread, from which worker processes are forked.

It imports what workers want once, so that a worker costs a fork, and knows nothing of calls. It ends when the
process that started it does, however that ends, and its workers end with it, by the kernel's word.

One main socket comes from the process that started it; each pool sends a socket of its own over that. On it:

    pool → zygote    a request to fork, with the descriptors that the worker is to have
    zygote → pool    the worker's process number, with a descriptor that stands for the process
    zygote → pool    the end of a worker: number, exit status, largest resident memory

Messages are pickles with their length before them. A pool that closes its socket has its workers killed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import threading
from typing import Any, NamedTuple

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
# What the kernel passes on with one message.
MOST_DESCRIPTORS = 253


class Spawn(NamedTuple):
    """A request to fork.

    Descriptors that come with it: lane, bell, the lane's socket, output, errors, and the initializer's.
    `authentication` is the key by which multiprocessing's managers know their own processes, if it is loaded.
    """

    lane: int
    name: str
    path: list[str]
    arguments: list[str]
    folder: str | None
    environment: dict[str, str]
    setup: bytes
    authentication: bytes | None

    @classmethod
    def of_this_process(cls, lane: int, name: str, setup: bytes) -> Spawn:
        """A request for a worker that finds what this process would find."""
        try:
            folder = os.getcwd()
        except FileNotFoundError:
            folder = None
        process: Any = sys.modules.get("multiprocessing.process")
        key = None if process is None else bytes(process.current_process().authkey)
        return cls(lane, name, list(sys.path), list(sys.argv), folder, dict(os.environ), setup, key)


class Born(NamedTuple):
    """The answer, sent with a descriptor of the process."""

    lane: int
    pid: int


class Ended(NamedTuple):
    """The end of a worker: `status` as of `os.waitstatus_to_exitcode`, `largest_memory` in bytes.

    `problem` says why there was no worker to begin with.
    """

    lane: int
    status: int
    largest_memory: int
    problem: str = ""


class Closed(Exception):
    """The other side of a socket is gone."""


def send(channel: socket.socket, message: object, descriptors: list[int] | None = None) -> None:
    """Send a message with descriptors; blocks while the other side does not read.

    Raises:
        Closed: the other side is gone.
    """
    data = pickle.dumps(message)
    data = len(data).to_bytes(4, "little") + data
    try:
        sent = socket.send_fds(channel, [data], descriptors or [])
        channel.sendall(data[sent:])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed from error


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """The next message with its descriptors; blocks until it is there.

    Raises:
        Closed: the other side is gone.
    """
    data = bytearray()
    found: list[int] = []
    length = 4
    while len(data) < length:
        try:
            # Not beyond the message: what follows may have descriptors of its own.
            part, descriptors, _, _ = socket.recv_fds(channel, length - len(data), MOST_DESCRIPTORS)
        except ConnectionResetError as error:
            raise Closed from error
        found += descriptors
        data += part
        if not part:
            raise Closed
        if length == 4 and len(data) == 4:
            length += int.from_bytes(data, "little")
    return pickle.loads(data[4:]), found


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
        self.fork(pool, request, descriptors)

    def fork(self, pool: int, request: Spawn, descriptors: list[int]) -> None:
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
            for descriptor in descriptors:
                os.close(descriptor)
            with contextlib.suppress(Closed):
                send(self.pools[pool], Ended(request.lane, 1, 0, str(error)))
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
        for descriptor in descriptors:
            os.close(descriptor)
        # For those to come: the first is waited for, and may not need it.
        importlib.import_module("motet._executor.log_records")
        # Until it is waited for, nobody else can have its number.
        process = os.pidfd_open(pid)
        self.workers[process] = (pid, request.lane, pool)
        self.poll.register(process, select.POLLIN)
        with contextlib.suppress(Closed):
            send(self.pools[pool], Born(request.lane, pid), [process])

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
    watched = os.pidfd_open(parent)
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
    _Zygote(channel, watched).run()
    # Its workers end with it; there is nothing to tidy up.
    os._exit(0)


class Zygote:
    """The zygote as the process that started it sees it. Thread-safe."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        import subprocess

        here, there = socket.socketpair()
        with there:
            command = (
                f"import sys; sys.path[:] = {sys.path!r}; sys.argv[:] = ['']; "
                f"from motet._executor.zygote import main; "
                f"main({there.fileno()}, {os.getpid()}, {list(preload)!r})"
            )
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-c", command],
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        self._main = here

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def connect(self) -> socket.socket:
        """A socket for one pool.

        Raises:
            Closed: the zygote is gone.
        """
        here, there = socket.socketpair()
        with there:
            try:
                send(self._main, None, [there.fileno()])
            except Closed:
                here.close()
                raise
        return here

    def close(self) -> None:
        """End it, and all its workers."""
        self._main.close()
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._main.close()
        # Nobody here can wait for it.
        self._process.returncode = 0


_zygotes: dict[tuple[str, ...], Zygote] = {}
_lock = threading.Lock()


def _close_all() -> None:
    """At the exit, behind the executors' end."""
    while _zygotes:
        _zygotes.popitem()[1].close()


def _forget_all() -> None:
    """In a forked child: another thread may have held the lock, and zygotes are their maker's."""
    global _lock
    _lock = threading.Lock()
    while _zygotes:
        _zygotes.popitem()[1].forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)


def connect(preload: tuple[str, ...]) -> socket.socket:
    """A socket to a zygote that has imported these modules; it is started if there is none."""
    with _lock:
        for _ in range(2):
            found = _zygotes.get(preload)
            if found is not None and not found.is_alive():
                found.close()
                found = None
            if found is None:
                found = _zygotes[preload] = Zygote(preload)
            with contextlib.suppress(Closed):
                return found.connect()
        problem = "the process that forks workers ends as it begins"
        raise RuntimeError(problem)
