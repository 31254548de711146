"""`multiprocessing.Pool`, on motet's worker processes."""

from __future__ import annotations

import os
import threading
import weakref
from multiprocessing import get_context, pool
from multiprocessing.pool import CLOSE, INIT, RUN, TERMINATE
from typing import TYPE_CHECKING, Any

from motet._executor import errors, machine
from motet._executor.chunks import Task, calls_of
from motet._executor.executor import Executor
from motet._executor.processes import ProcessWorkers
from motet._executor.stopping import GRACE

from . import _places
from ._calls import chunks_of, outcome
from ._feeder import Feeder
from ._results import AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motet._executor.chunks import Call

    from ._results import Callback

_Stock: Any = pool.Pool

_open: weakref.WeakSet[Pool] = weakref.WeakSet()
# Made before the interpreter's exit, which does not let the module of its base be imported any more.
_WorkerDied = errors.WorkerDied


class Pool(_Stock):  # type: ignore[misc]
    """`multiprocessing.Pool` on motet's worker processes; of Python's class it also is one. Thread-safe.

    A worker that dies costs the one call that ran, or chunk of calls, which raises `motet.WorkerDied`. What
    has not ended when the pool is terminated raises `WorkerDied` or `concurrent.futures.CancelledError`.

    Args:
        processes: How many workers; None: as many as processors that this process may use.
        initializer: Called with `initargs` in each worker before its first call. If it raises, all calls
            raise `motet.InitializerFailed`.
        maxtasksperchild: Calls, or chunks of calls, after which a worker is replaced.
        context: Accepted, but workers are always forked from a fresh process with one thread.
    """

    # Functions and arguments go to another process.
    _ships = True

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        self._state = INIT
        if processes is None:
            processes = machine.usable_cpus()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and not (isinstance(maxtasksperchild, int) and maxtasksperchild > 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx = context or get_context()
        self._processes = processes
        self._lock = threading.Lock()
        self._feeder: Feeder | None = None
        self._executor = self._make_executor(initializer, tuple(initargs), maxtasksperchild)
        self._repopulate_pool()
        self._state = RUN
        _open.add(self)

    def _make_executor(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], calls: int | None
    ) -> Executor:
        return Executor(
            "processes",
            self._processes,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=calls,
            preload=_places.preload(),
            thread_name_prefix="PoolWorker",
        )

    def _repopulate_pool(self) -> None:
        """Have as many workers as there are to be, before there are calls for them."""
        workers = self._executor._workers
        if isinstance(workers, ProcessWorkers):
            for _ in range(self._processes - len(workers.workers)):
                workers._grow()

    @property
    def _pool(self) -> list[Any]:
        """The workers: programs look at their number, and at their `pid`."""
        return list(self._executor._processes.values())

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={self._processes}>"

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    # ---- one call ----

    def apply(
        self, func: Callable[..., Any], args: Sequence[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """What `func(*args, **kwds)` returns or raises in a worker."""
        self._check_running()
        success, value = outcome(self._executor.submit(func, *args, **(kwds or {})))
        if success:
            return value
        raise value

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Begin `func(*args, **kwds)`; when it ends, a thread calls the callback that fits."""
        self._check_running()
        result = AsyncResult(callback, error_callback)
        result._follow(self._executor.submit(func, *args, **(kwds or {})))
        return result

    # ---- many calls, all results ----

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """The list of what `func(item)` returns; raises what the first chunk that failed raised."""
        found: list[Any] = self.map_async(func, iterable, chunksize).get()
        return found

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with `func(*item)`."""
        found: list[Any] = self.starmap_async(func, iterable, chunksize).get()
        return found

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> MapResult:
        """Begin `map`; when all of it ends, a thread calls the callback that fits."""
        return self._begin_map(False, func, iterable, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> MapResult:
        """Begin `starmap`; when all of it ends, a thread calls the callback that fits."""
        return self._begin_map(True, func, iterable, chunksize, callback, error_callback)

    def _begin_map(
        self,
        several: bool,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback,
        error_callback: Callback,
    ) -> MapResult:
        self._check_running()
        items = list(iterable)
        if chunksize is None:
            # Four for each worker, as multiprocessing does.
            chunksize = max(1, -(-len(items) // (4 * self._processes)))
        starts = range(0, len(items), _checked_size(chunksize))
        result = MapResult(len(starts), callback, error_callback)
        call = self._calls_of(func, several)
        for place, start in enumerate(starts):
            function, arguments = call(items[start : start + chunksize])
            result._follow_chunk(place, self._executor.submit(function, *arguments))
        return result

    # ---- many calls, one result after the other ----

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """The results of `func(item)` in order, as an iterator; the items are taken in a thread."""
        return self._begin_imap(IMapIterator(), func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        """As `imap`, with the results as they come."""
        return self._begin_imap(IMapUnorderedIterator(), func, iterable, chunksize)

    def _begin_imap(
        self, results: IMapIterator, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int
    ) -> Iterator[Any]:
        self._check_running()
        if _checked_size(chunksize) == 1:
            self._feed(results, ((func, (item,)) for item in iterable))
            return results
        call = self._calls_of(func, False)
        self._feed(results, (call(items) for items in chunks_of(iterable, chunksize)))
        return (result for chunk in results for result in chunk)

    def _calls_of(self, func: Callable[..., Any], several: bool) -> Callable[[list[Any]], Call]:
        return calls_of(func, Task(several, "raise", 0, 0.0), self._ships)

    def _feed(self, results: IMapIterator, calls: Iterator[Call]) -> None:
        with self._lock:
            self._check_running()
            if self._feeder is None:
                self._feeder = Feeder(self._executor)
                # It would keep the workers of a pool that nobody has.
                weakref.finalize(self, self._feeder.close).atexit = False
            self._feeder.feed(results, calls)

    # ---- the end ----

    def close(self) -> None:
        """Take no more calls; the workers end when all is done."""
        with self._lock:
            if self._state != RUN:
                return
            self._state = CLOSE
        if self._feeder is None:
            self._executor.shutdown(wait=False)
        else:
            self._feeder.close()

    def terminate(self) -> None:
        """End the workers at once, whatever they do, by SIGTERM, and by SIGKILL a second later."""
        with self._lock:
            self._state = TERMINATE
        if self._feeder is not None:
            self._feeder.stop()
        self._end_workers()

    def join(self) -> None:
        """Wait for the workers' end, after `close` or `terminate`.

        Raises:
            ValueError: neither was called.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._feeder is not None and self._state == CLOSE:
            self._feeder.join()
        self._executor.shutdown()

    def _end_workers(self) -> None:
        thread = self._executor._executor_manager_thread
        self._executor.terminate_workers()
        if thread is not None and thread is not threading.current_thread():
            thread.join(GRACE)
            if thread.is_alive():
                self._executor.kill_workers()
                thread.join()

    def _end_at_exit(self) -> None:
        if self._feeder is not None:
            self._feeder.stop()
        self._end_workers()


def _checked_size(chunksize: int) -> int:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")
    return chunksize


def _end_all() -> None:
    """At the interpreter's exit: what nobody has waited for is not done, as with Python's pools."""
    for left in list(_open):
        left._end_at_exit()


# Before executors, which would wait for their calls.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
# A forked child has none of its parent's workers.
os.register_at_fork(after_in_child=_open.clear)
