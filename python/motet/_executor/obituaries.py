"""The errors that tell of a worker's end."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from . import errors

if TYPE_CHECKING:
    from .worker_process import Worker
    from .zygote_messages import Ended


def worker_died(what: str, worker: Worker, ended: Ended, too_large: bool) -> errors.WorkerDied:
    """The error of a call that a worker died with; `what` names the call."""
    how = "was killed because it used more memory than its limit" if too_large else _how_it_ended(ended)
    memory = f", having used {ended.largest_memory / 2**20:.0f} MiB at most" if ended.largest_memory else ""
    error = errors.WorkerDied(
        f"the worker {worker.name} (process {worker.pid}) {how} while it ran {what}{memory}"
    )
    error.call = what
    error.exit_code = ended.status
    error.largest_memory = ended.largest_memory
    return error


def ends_as_it_begins(worker: Worker, ended: Ended) -> errors.WorkerDied:
    """The error of a pool whose workers do not live to answer anything."""
    error = errors.WorkerDied(
        f"the workers end before their first call; the last one, {worker.name}, {_how_it_ended(ended)}"
    )
    error.exit_code = ended.status
    error.largest_memory = ended.largest_memory
    return error


def _how_it_ended(ended: Ended) -> str:
    if ended.problem:
        return f"could not be made: {ended.problem}"
    if ended.status < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-ended.status).name}"
        return f"was killed by signal {-ended.status}"
    return f"ended with exit code {ended.status}"
