"""The end of a session: what workers have started ends with them when their zygote cannot see to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

# Seconds after which nobody waits for a process that the kernel does not let end.
PATIENCE = 5.0


def end_session(session: int) -> None:
    """Kill all processes of a session, and wait until they have ended.

    A process that has begun a session of its own has left this one, and goes on.
    """
    until = time.monotonic() + PATIENCE
    # Those that were starting others may have done so meanwhile.
    while (members := _members(session)) and time.monotonic() < until:
        for pid in members:
            _end(pid, session, until)


def _end(pid: int, session: int, until: float) -> None:
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            # By now the number may be another process's.
            if _session_of(pid) == session:
                signal.pidfd_send_signal(process, signal.SIGKILL)
                end = select.poll()
                end.register(process, select.POLLIN)
                end.poll(max(0.0, until - time.monotonic()) * 1000)
        finally:
            os.close(process)


def _members(session: int) -> list[int]:
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in numbers if _session_of(pid) == session]


def _session_of(pid: int) -> int:
    """The session of a process that runs; 0 if it does not."""
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return 0
    return 0 if state in "ZX" else int(session)
