"""motet as a backend of joblib, and so of scikit-learn.

>>> from motet.compat.joblib import register
>>> register()
>>> from joblib import Parallel, delayed, parallel_config
>>> with parallel_config(backend="motet", n_jobs=2):
...     Parallel()(delayed(abs)(number) for number in (-1, 2))
[1, 2]
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import joblib  # type: ignore[import-untyped]
from joblib._parallel_backends import (  # type: ignore[import-untyped]
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .._executor import machine
from .._executor.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._executor.futures import CallFuture

__all__ = ["MotetBackend", "register"]

_lock = threading.Lock()
# The executor of the last call, with what it was made with: most programs use one over and over.
_kept: dict[tuple[int, int | None], Executor] = {}


def register(make_default: bool = False) -> None:
    """Make the backend "motet" known to joblib; `make_default`: also where a program names none."""
    joblib.register_parallel_backend("motet", MotetBackend, make_default=make_default)


class MotetBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's calls on worker processes of `motet.Executor`, which stay for calls to come.

    Arrays travel through shared memory both ways. Of nested calls the first level runs on threads of the
    worker and deeper ones run in sequence, as with joblib's own backends. A worker that dies costs its one
    batch: that call of `Parallel` raises `motet.WorkerDied`, and the next one finds the pool in order.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    # Seconds. A batch costs motet less than it costs joblib's own backends.
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.2

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._workers: Executor | None = None
        self._futures: set[CallFuture[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there will be; -1 means all processors that this process may use."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or (self.nesting_level and not self.in_main_thread()):
            return 1
        return n_jobs if n_jobs > 0 else max(machine.usable_cpus() + 1 + n_jobs, 1)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: object = None, require: object = None, **_: Any
    ) -> int:
        """Get ready for a call of `Parallel`; returns how many workers there are."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self._workers = _executor(count, self.inner_max_num_threads)
        self.parallel = parallel
        return count

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> CallFuture[Any]:
        """Run a batch."""
        assert self._workers is not None
        future = self._workers.submit(func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: CallFuture[Any]) -> Any:
        """The batch's results; raises what it raised."""
        return out.result()

    def terminate(self) -> None:
        """End a call of `Parallel`. The workers stay."""
        self._workers = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop all batches of this call of `Parallel`; those of others go on."""
        for future in list(self._futures):
            future.cancel(kill=True)
        self._futures.clear()


def _executor(count: int, threads: int | None) -> Executor:
    with _lock:
        executor = _kept.get((count, threads))
        if executor is None or executor._shutdown or executor._broken or executor._process != os.getpid():
            # The one before ends when nobody uses it any more.
            _kept.clear()
            executor = _kept[count, threads] = Executor("processes", count, threads_per_worker=threads)
        return executor
