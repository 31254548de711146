"""The end of a child process: hearing of it, and taking its exit status.

Each child is waited for by itself, so that loops, threads and the `subprocess` module do not take each
other's: no handler of `SIGCHLD`, no wait for whichever child ends next. A descriptor of the process (a pidfd)
is readable when it has ended; where the system has none, a thread waits.
"""

import contextlib
import os
import signal
import subprocess
import threading
from asyncio.log import logger
from collections.abc import Callable

from ._base import LoopBase

# What asyncio reports when somebody else has taken the exit status.
_UNKNOWN_STATUS = 255


class Child:
    """A running child process of a loop; `ended(status)` is called there once it has ended."""

    def __init__(
        self, loop: LoopBase, process: subprocess.Popen[bytes], ended: Callable[[int], object]
    ) -> None:
        self._loop = loop
        self._process = process
        self._ended = ended
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(process.pid)
            loop._add_reader(self._descriptor, self._collect)
        except ProcessLookupError:
            # Somebody has taken its status already.
            loop.call_soon(self._collect)
        except (AttributeError, OSError):
            # A system without pidfds, or without any more of them.
            self.forget()
            self._wait_in_thread()
        except BaseException:
            self.forget()
            raise

    def _wait_in_thread(self) -> None:
        name = f"motet waits for process {self._process.pid}"
        threading.Thread(target=self._wait, name=name, daemon=True).start()

    def _wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            # The status is left to the loop's thread, so that no signal sent there meets a stranger.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:
            # The loop was closed.
            take_status(self._process)

    def _collect(self) -> None:
        status = take_status(self._process, self._descriptor)
        self.forget()
        if status is None:
            # It has ended, but whoever traces it has not let go of it.
            self._wait_in_thread()
        else:
            self._ended(status)

    def has_ended(self) -> bool:
        """Whether it has ended; its status stays where it is."""
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(*_identity(self._process, self._descriptor), options) is not None
        except ChildProcessError:
            return True

    def send_signal(self, number: int) -> None:
        """Sends a signal; nothing if the process has ended."""
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif self._process.returncode is None:
                os.kill(self._process.pid, number)
        except ProcessLookupError:
            pass

    def forget(self) -> None:
        """Stops waiting by descriptor."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop._remove_reader(descriptor)
            os.close(descriptor)


def take_status(process: subprocess.Popen[bytes], descriptor: int | None = None) -> int | None:
    """Takes the status of a child that has ended, into its `Popen` object; `None` if it has not ended."""
    # Whoever waits in a `Popen` method holds this lock until the status is in the object.
    with process._waitpid_lock:  # type: ignore[attr-defined]
        if process.returncode is None:
            try:
                result = os.waitid(*_identity(process, descriptor), os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                logger.warning(
                    "child process pid %d exit status already read: will report returncode 255", process.pid
                )
                process.returncode = _UNKNOWN_STATUS
            else:
                if result is not None:
                    exited = result.si_code == os.CLD_EXITED
                    process.returncode = result.si_status if exited else -result.si_status
        status: int | None = process.returncode
        return status


def _identity(process: "subprocess.Popen[bytes]", descriptor: int | None) -> tuple[int, int]:
    return (os.P_PID, process.pid) if descriptor is None else (os.P_PIDFD, descriptor)
