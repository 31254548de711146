"""What can become of a call, beside what its function raises."""

from __future__ import annotations

import signal
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any


class MotetError(Exception):
    """What all of motet's own exceptions derive from."""


class CallTimeout(MotetError, TimeoutError):
    """A call ran longer than it may."""


class InitializerFailed(MotetError, BrokenExecutor):
    """A worker could not begin, since its initializer raised."""


class WorkerDied(MotetError, BrokenProcessPool):
    """A worker process ended in the midst of a call."""

    @classmethod
    def of(cls, call: object, worker: str, ended: Any) -> WorkerDied:
        if ended.status < 0:
            how = f"was killed by {signal.Signals(-ended.status).name}"
        else:
            how = f"ended with exit code {ended.status}"
        memory = f", having used {ended.largest_memory / 2**20:.0f} MiB at most" if ended.largest_memory else ""
        return cls(f"the worker {worker} {how} while it ran {call or 'a call'}{memory}")
