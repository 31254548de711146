"""Executors that mappings use one after the other: to start workers takes longer than many a mapping."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, NamedTuple

from .executor import Executor, Place

# Seconds that an executor waits for the next mapping.
IDLE = 10.0
# How many executors may wait at the same time.
KEPT = 2


class Loan(NamedTuple):
    """An executor for one mapping alone, and what its workers began in."""

    executor: Executor
    key: tuple[str, int]
    surroundings: object


class _Kept(NamedTuple):
    loan: Loan
    timer: threading.Timer


_kept: dict[tuple[str, int], _Kept] = {}
# Taken again by the thread that has it, when an abandoned mapping is collected there.
_lock = threading.RLock()


def borrow(on: Place, workers: int) -> Loan:
    """An executor, with workers that have begun if one has just been given back.

    Not one whose workers began in other surroundings: folder, environment, path of modules.
    """
    key = (on, workers)
    surroundings = _surroundings()
    with _lock:
        kept = _kept.pop(key, None)
    if kept is not None:
        kept.timer.cancel()
        if kept.loan.surroundings == surroundings:
            return kept.loan
        kept.loan.executor.shutdown(wait=False)
    return Loan(Executor(on, workers), key, surroundings)


def give_back(loan: Loan) -> None:
    """The executor, at which nothing is left to do, can be used by the next."""
    if loan.executor._shutdown:
        # The interpreter exits.
        return
    timer = threading.Timer(IDLE, _end, (loan,))
    timer.daemon = True
    timer.name = "motet.map, idle"
    kept = _Kept(loan, timer)
    with _lock:
        leaving = [_kept.pop(loan.key, None)]
        if len(_kept) >= KEPT:
            leaving.append(_kept.pop(next(iter(_kept))))
        _kept[loan.key] = kept
    timer.start()
    for other in leaving:
        if other is not None:
            other.timer.cancel()
            other.loan.executor.shutdown(wait=False)


def end_all() -> None:
    """End the executors that wait, and their workers; returns when they have ended."""
    with _lock:
        leaving = list(_kept.values())
        _kept.clear()
    for kept in leaving:
        kept.timer.cancel()
        kept.loan.executor.shutdown()


def _end(loan: Loan) -> None:
    with _lock:
        kept = _kept.get(loan.key)
        if kept is None or kept.loan is not loan:
            return
        del _kept[loan.key]
    loan.executor.shutdown(wait=False)


def _surroundings() -> Any:
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""
    return folder, dict(os.environ), list(sys.path), list(sys.argv)


def _forget() -> None:
    global _lock
    _lock = threading.RLock()
    _kept.clear()


# A forked child has none of its parent's threads and workers.
os.register_at_fork(after_in_child=_forget)
