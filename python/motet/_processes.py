"""Subprocesses: `subprocess_exec` and `subprocess_shell`, and so `asyncio.create_subprocess_…`.

`subprocess.Popen` starts the child, in a thread of the loop's: it returns only once the child runs its
program, which may take long. From there on `_subprocess_transport.py` has the child.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from ._base import LoopBase
from ._subprocess_transport import SubprocessTransport

# How many children of one loop may be on their way at once.
_LAUNCHERS = 4


class _Launch:
    """The start of one child, by whichever thread is first; `abandon()` leaves no child behind."""

    def __init__(self, popen: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self._lock = threading.Lock()
        self._popen: Callable[[], subprocess.Popen[bytes]] | None = popen
        self._process: subprocess.Popen[bytes] | None = None
        self._abandoned = False

    def run(self) -> None:
        with self._lock:
            popen, self._popen = self._popen, None
        if popen is None:
            return
        process = popen()
        with self._lock:
            if not self._abandoned:
                self._process = process
                return
        discard(process)

    def take(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            process, self._process = self._process, None
            self._abandoned = process is None
        if process is None:
            # Another thread has begun it just now.
            raise RuntimeError("can't start new thread")
        return process

    def abandon(self) -> "subprocess.Popen[bytes] | None":
        """Nobody waits any more. Returns the child that runs already, for the caller to discard."""
        with self._lock:
            self._abandoned = True
            self._popen = None
            process, self._process = self._process, None
        return process


def discard(process: "subprocess.Popen[bytes]") -> None:
    """Ends a child that nobody waits for, and takes its status."""
    with contextlib.suppress(OSError):
        process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait()


def discard_elsewhere(process: "subprocess.Popen[bytes]") -> None:
    """As `discard`, in another thread if there can be one: the end of a child may take its time."""
    try:
        threading.Thread(target=discard, args=(process,), name="motet ends a process").start()
    except RuntimeError:
        discard(process)


class ProcessMethods(LoopBase):
    """What `asyncio.BaseEventLoop.subprocess_exec` and `subprocess_shell` ask for."""

    _launchers: "concurrent.futures.ThreadPoolExecutor | None"
    _processes_started: int

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> SubprocessTransport:
        pipes = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize}
        process = await self._launch(lambda: subprocess.Popen(args, shell=shell, **pipes, **kwargs))
        self._processes_started += 1
        try:
            transport = SubprocessTransport(self, protocol, process, extra)
        except BaseException:
            discard_elsewhere(process)
            raise
        try:
            await transport._connect_pipes()
        except (Exception, asyncio.CancelledError):
            transport.close()
            await transport._wait()
            raise
        except BaseException:
            transport.close()
            raise
        return transport

    async def _launch(self, popen: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        launch = _Launch(popen)
        try:
            if self._launchers is None:
                self._launchers = concurrent.futures.ThreadPoolExecutor(_LAUNCHERS, "motet starts processes")
            started = self.run_in_executor(self._launchers, contextvars.copy_context().run, launch.run)
        except RuntimeError:
            # No more threads: the interpreter is about to exit, say.
            launch.run()
            return launch.take()
        try:
            await started
        except BaseException:
            process = launch.abandon()
            if process is not None:
                discard_elsewhere(process)
            raise
        finally:
            # Its exception knows this frame.
            del started
        return launch.take()

    def _close_launchers(self) -> None:
        if self._launchers is not None:
            self._launchers.shutdown(wait=False, cancel_futures=True)
