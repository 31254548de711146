"""`motet.Executor`: worker pools with the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from motet import _motet

from . import errors, machine, starting
from .calls import Call, Options
from .futures import CallFuture
from .processes import ProcessWorkers, Settings
from .threads import Setup as ThreadSetup
from .threads import ThreadWorkers
from .worker import Setup
from .worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

_Place = Literal["auto", "processes", "threads", "interpreters"]

_open: weakref.WeakSet[Executor] = weakref.WeakSet()
_exiting = False


class Executor(concurrent.futures.Executor):
    """Runs calls on worker processes or threads; a true `concurrent.futures.Executor`. Thread-safe.

    Args:
        on: Where calls run: "processes", "threads", "interpreters", or "auto", which decides for you
            (`decision` says how and why).
        max_workers: How many workers at most; they are started as calls need them. None: as many as
            processors that this process may use, by its affinity and its control group.
        initializer: Called with `initargs` in each worker before its first call. If it raises, the pool is
            broken: all calls raise `InitializerFailed`.
        preload: Names of modules that workers want. They are imported once, in the process that workers
            are forked from, so that no worker spends time on them.
        timeout: Seconds that an attempt may take from its beginning; then it is stopped, and its worker
            killed if it does not stop within a second. The call raises `CallTimeout`.
        retries: How often a call is tried again that raised an `Exception`, took too long, or lost its
            worker. A call that has lost three workers is not tried again.
        memory_limit: Bytes of resident memory that a worker may use; a call that makes it use more is
            killed with it.
        max_tasks_per_child: Calls after which a worker is replaced.
        strict: As in `concurrent.futures`: the death of a worker breaks the pool. Otherwise it costs the one
            call that ran, which raises `WorkerDied`, and the worker is replaced.
        tag_output: Begin each line that a worker prints with its name.
        threads_per_worker: How many threads libraries such as NumPy may start in each worker; None: its share
            of the processors. 0: as many as they like.
        thread_name_prefix: What workers are called.
        mp_context: Accepted and ignored: workers are always forked from a fresh process with one thread.

    Functions travel by value where workers could not import them: lambdas, closures and what `__main__` or
    a notebook defines work, without `if __name__ == "__main__"`. Large buffers, such as NumPy's, go through
    shared memory.
    """

    # Whether an event loop whose future of a call is cancelled stops the call.
    _stops_what_is_cancelled = True

    def __init__(
        self,
        on: _Place = "auto",
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        preload: Iterable[str] = (),
        timeout: float | None = None,
        retries: int = 0,
        memory_limit: int | None = None,
        max_tasks_per_child: int | None = None,
        strict: bool = False,
        tag_output: bool = False,
        threads_per_worker: int | None = None,
        thread_name_prefix: str = "",
        mp_context: object = None,
    ) -> None:
        if on not in ("auto", "processes", "threads", "interpreters"):
            raise ValueError(f"on is to be 'auto', 'processes', 'threads' or 'interpreters', not {on!r}")
        count = _checked_count("max_workers", max_workers) or machine.usable_cpus()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if isinstance(preload, str):
            raise TypeError(f"preload is to be a list of modules' names, not the string {preload!r}")
        self._options = Options(timeout, retries).checked()
        self._max_workers = count
        self._shutdown = False
        self._process = os.getpid()
        if on == "interpreters":
            raise NotImplementedError("on='interpreters' is not there yet; use 'processes' or 'threads'")
        place, self._decision = _decide(on)
        name = thread_name_prefix or "motet"
        limit = _checked_count("memory_limit", memory_limit)
        calls = _checked_count("max_tasks_per_child", max_tasks_per_child)
        begun, self._inherited = None, None
        self._workers: ProcessWorkers | ThreadWorkers
        if place == "threads":
            if limit or calls or strict:
                raise ValueError("memory_limit, max_tasks_per_child and strict are for on='processes'")
            self._workers = ThreadWorkers(count, ThreadSetup(initializer, initargs), name)
        else:
            if initializer is not None:
                begun, self._inherited = starting.dump(initializer, initargs)
            self._workers = ProcessWorkers(
                Settings(
                    count,
                    _setup(begun, count, threads_per_worker),
                    tuple(preload),
                    name,
                    strict,
                    limit,
                    calls,
                    tag_output,
                    None if self._inherited is None else weakref.ref(self._inherited),
                )
            )
        self._finalizer = weakref.finalize(self, self._workers.close)
        self._finalizer.atexit = False
        _open.add(self)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """Run `fn(*args, **kwargs)` on a worker.

        What cannot be sent to a worker raises from the future: `NotShippable` names the part.

        Raises:
            RuntimeError: after `shutdown`, or in another process than the executor's.
            BrokenExecutor: the pool is broken.
        """
        return self._submit(self._options, fn, args, kwargs)

    def map(  # type: ignore[override]
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[T]:
        """As `concurrent.futures.Executor.map`. `chunksize` changes nothing: calls go in batches anyway.

        Raises:
            ValueError: `chunksize` is less than 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize, **more)

    def options(
        self, *, timeout: float | None = None, retries: int | None = None, name: str | None = None
    ) -> WithOptions:
        """This executor with options of its own for the calls that are submitted through it.

        >>> with Executor("processes", 1) as executor:
        ...     executor.options(timeout=10, name="sum of two").submit(sum, [1, 2]).result()
        3
        """
        timeout = self._options.timeout if timeout is None else timeout
        retries = self._options.retries if retries is None else retries
        return WithOptions(self, Options(timeout, retries, name).checked())

    def _submit(
        self, options: Options, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CallFuture[T]:
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._process != os.getpid():
            here = os.getpid()
            raise RuntimeError(f"this executor belongs to process {self._process}; make one in this, {here}")
        workers = self._workers
        if workers.broken is not None:
            raise errors.fresh(workers.broken)
        call = None if options.is_plain() else Call(options, fn)
        try:
            return workers.submit(fn, args, kwargs, call)
        except (errors.NotShippable, errors.ArgumentTooLarge, errors.ArenaFull) as error:
            future: CallFuture[T] = CallFuture()
            future.set_exception(error)
            try:
                return future
            finally:
                # The error's traceback has this frame, and all that called it with their arrays.
                del future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, kill: bool = False) -> None:
        """Take no more calls; the workers end when all is done.

        Args:
            wait: Return when that is so.
            cancel_futures: Cancel the calls that have not begun.
            kill: Also stop the calls that run.
        """
        self._shutdown = True
        if self._process != os.getpid():
            return
        if cancel_futures or kill:
            for future in self._workers.withdraw_all():
                future._end_cancelled()
        if kill:
            self._workers.kill_all()
        self._workers.close()
        if wait:
            self._workers.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever presses Ctrl-C does not want to wait for calls.
        self.shutdown(kill=kind is not None and issubclass(kind, KeyboardInterrupt))

    @property
    def decision(self) -> str:
        """Where the calls run, and why, in one sentence."""
        return self._decision

    def statistics(self) -> dict[str, Any]:
        """Counts of calls (`submitted`, `finished`, `queued`, `sent`), of workers, and of shared memory."""
        return {**self._workers.statistics(), "arena": _motet._arena_statistics()}

    @property
    def _broken(self) -> BaseException | bool:
        """As in `ProcessPoolExecutor`, where test suites look."""
        return self._workers.broken or False

    @property
    def _processes(self) -> dict[int, Worker]:
        """As in `ProcessPoolExecutor`: by process number. Waits for those that were asked for."""
        return self._workers.born() if isinstance(self._workers, ProcessWorkers) else {}

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        """As in `ProcessPoolExecutor`; None before the first call and after all is over."""
        return self._workers.thread if isinstance(self._workers, ProcessWorkers) else None

    @property
    def _threads(self) -> set[threading.Thread]:
        """As in `ThreadPoolExecutor`."""
        return self._workers.threads if isinstance(self._workers, ThreadWorkers) else set()

    def terminate_workers(self) -> None:
        """As `ProcessPoolExecutor.terminate_workers` of 3.14: no more calls, and SIGTERM for all workers."""
        self._shut_down_by_force("terminate")

    def kill_workers(self) -> None:
        """As `ProcessPoolExecutor.kill_workers` of 3.14: no more calls, and SIGKILL for all workers."""
        self._shut_down_by_force("kill")

    def _shut_down_by_force(self, how: str) -> None:
        if not isinstance(self._workers, ProcessWorkers):
            raise TypeError(f"{how}_workers() is for worker processes: threads cannot be ended by force")
        workers = list(self._processes.values())
        self._workers.end_by_force()
        self.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            getattr(worker, how)()


class WithOptions:
    """An executor with options for its calls; see `Executor.options`."""

    def __init__(self, executor: Executor, options: Options) -> None:
        self._executor = executor
        self._options = options

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """As `Executor.submit`."""
        return self._executor._submit(self._options, fn, args, kwargs)


def _decide(on: _Place) -> tuple[_Place, str]:
    """Where calls are to run, and why."""
    if on != "auto":
        return on, f"{on}, because the executor was made so"
    return "processes", "processes, because they suit any work; nothing is measured yet"


def _checked_count(name: str, value: int | None) -> int | None:
    if value is not None:
        if not isinstance(value, int):
            raise TypeError(f"{name} is to be a whole number, not {value!r}")
        if value <= 0:
            raise ValueError(f"{name} must be greater than 0")
    return value


def _setup(initializer: bytes | None, count: int, threads: int | None) -> bytes:
    if threads is None:
        threads = max(1, machine.usable_cpus() // count)
    level = None
    if "logging" in sys.modules:
        import logging

        level = logging.getLogger().getEffectiveLevel()
    limit = int(_motet._arena_statistics()["limit"])
    return pickle.dumps(Setup(initializer, threads or None, level, limit))


def _end() -> None:
    """At the interpreter's exit: what was submitted is done, unless the user is in a hurry."""
    global _exiting
    _exiting = True
    interrupted = getattr(sys, "last_type", None)
    hurry = interrupted is not None and issubclass(interrupted, KeyboardInterrupt)
    for executor in list(_open):
        executor.shutdown(kill=hurry)


# As concurrent.futures: before the interpreter waits for threads, so that theirs can be told to end.
threading._register_atexit(_end)  # type: ignore[attr-defined]
