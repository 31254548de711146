"""The zygotes that this process has started: one for each set of modules to import."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket

# Here, and not when it is needed: a child that is forked while another thread imports it can never import it.
import subprocess
import sys
import threading

from .zygote_messages import Closed, send


class Zygote:
    """The zygote as the process that started it sees it. Thread-safe."""

    def __init__(self, preload: tuple[str, ...]) -> None:
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

    def connect(self) -> tuple[socket.socket, int]:
        """A socket for one pool, and the number of the session that its workers will be of.

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
        return here, self._process.pid

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


def connect(preload: tuple[str, ...]) -> tuple[socket.socket, int]:
    """A socket to a zygote that has imported these modules, and the session of its workers.

    The zygote is started if there is none.
    """
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
