"""`motet.Executor`: worker pools with the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from motet import _motet

from . import errors, machine, processes
from .auto_workers import AutoWorkers
from .calls import Call, Options
from .futures import CallFuture
from .making import Wishes, make_workers
from .processes import ProcessWorkers
from .threads import ThreadWorkers
from .worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

Place = Literal["auto", "processes", "threads", "interpreters"]

_open: weakref.WeakSet[Executor] = weakref.WeakSet()
_exiting = False


class Executor(concurrent.futures.Executor):
    """Runs calls on worker processes, threads or interpreters; as in `concurrent.futures`. Thread-safe.

    Args:
        on: Where calls run: "processes", "threads", "interpreters", or "auto", which begins on processes and
            measures the first calls: if they mostly wait, or work without the GIL, later ones run on threads.
            Without a GIL it is threads at once, with an option of processes it is these. Coroutine functions
            run on an event loop (`decision` says what was chosen, and why).
        max_workers: How many workers at most; they are started as calls need them. None: as many as
            processors that this process may use, by its affinity and its control group.
        initializer: Called with `initargs` in each worker before its first call. If it raises, the pool is
            broken: all calls raise `InitializerFailed`.
        preload: Names of modules that workers want. They are imported once, in the process that workers
            are forked from, so that no worker spends time on them; for threads, here.
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

    Raises:
        TypeError, ValueError: an argument is not right, or is not for this place.
        NotImplementedError: this Python has no interpreters.

    Functions travel by value where workers could not import them: lambdas, closures and what `__main__` or
    a notebook defines work, without `if __name__ == "__main__"`. Large buffers, such as NumPy's, go through
    shared memory.
    """

    # Whether an event loop whose future of a call is cancelled stops the call.
    _stops_what_is_cancelled = True

    def __init__(
        self,
        on: Place = "auto",
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
        self._on = on
        self._max_workers = count
        self._shutdown = False
        self._process = os.getpid()
        self._decision = f"{on}, because the executor was made so"
        wishes = Wishes(
            workers=count,
            asked=max_workers,
            initializer=initializer,
            initargs=initargs,
            preload=tuple(preload),
            memory_limit=_checked_count("memory_limit", memory_limit),
            max_tasks_per_child=_checked_count("max_tasks_per_child", max_tasks_per_child),
            strict=strict,
            tag_output=tag_output,
            threads_per_worker=threads_per_worker,
            name=thread_name_prefix or "motet",
            mp_context=mp_context,
        )
        self._workers, self._inherited = make_workers(on, wishes)
        self._finalizer = weakref.finalize(self, self._workers.close)
        self._finalizer.atexit = False
        _open.add(self)

    def __repr__(self) -> str:
        state = " shutdown" if self._shutdown else ""
        return f"<{type(self).__qualname__} on={self._on!r} max_workers={self._max_workers}{state}>"

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
        self,
        options: Options,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        submit: Callable[..., CallFuture[T]] | None = None,
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
            return (submit or workers.submit)(fn, args, kwargs, call)
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
            kill: Also stop the calls that run. Workers whose exit handlers take longer than a second are
                killed, with a `RuntimeWarning`; without this, they are waited for.
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
        workers = self._workers
        return workers.decision if isinstance(workers, AutoWorkers) else self._decision

    def statistics(self) -> dict[str, Any]:
        """What the executor has done, as a new dictionary. Thread-safe; costs what a few calls cost.

        Everywhere: `submitted`, `finished` (returned, raised or stopped) and `queued` (no worker has them)
        count calls; `workers` is the number of workers there are now; `arena` is the shared memory of this
        process and all its executors, in bytes: `limit`, `live_bytes` (in use), `held_bytes` (of the system),
        `peak_bytes` (the most that was in use), `kept_bytes` (in use by workers that keep it, beyond the
        limit), `given_bytes` (left to workers for good so far); and `allocations`, a count.

        With processes also: `sent`, calls that a worker has got and that have not ended; `taken_back`, calls
        that one worker had got and another was given; `busy_nanos`, nanoseconds of all finished calls;
        `restarts`, how many workers were replaced; `bytes_copied`, bytes of pickles (functions, arguments,
        results, errors, log records), and `bytes_shared`, bytes of buffers in shared memory, which their
        receiver does not copy, each as `{"to_workers": …, "from_workers": …}`; what is sent twice counts
        twice. `per_worker` has a dictionary for each worker that there is now: `name`, `pid` (0 until it is
        known), `finished` (calls), `busy_share` (0 to 1, the part of its life that it was at calls) and
        `restarts` (how many workers before it have had its place).

        With threads also: `running`, calls; `abandoned`, threads that were given up; and in `per_worker`
        `name`, `ident` (as `threading.get_ident()`), `finished`, and `busy_share` (0 to 1, the part of its
        life that it has not waited for calls).
        """
        return {**self._workers.statistics(), "arena": _motet._arena_statistics()}

    @property
    def _broken(self) -> BaseException | bool:
        """As in `ProcessPoolExecutor`, where test suites look."""
        return self._workers.broken or False

    @property
    def _process_workers(self) -> ProcessWorkers | None:
        workers = self._workers
        if isinstance(workers, AutoWorkers):
            return workers.processes
        return workers if isinstance(workers, ProcessWorkers) else None

    @property
    def _processes(self) -> dict[int, Worker]:
        """As in `ProcessPoolExecutor`: by process number. Waits for those that were asked for."""
        workers = self._process_workers
        return {} if workers is None else workers.born()

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        """As in `ProcessPoolExecutor`; None before the first call and after all is over."""
        workers = self._process_workers
        return None if workers is None else workers.thread

    @property
    def _threads(self) -> set[threading.Thread]:
        """As in `ThreadPoolExecutor`."""
        workers = self._workers
        threads = workers.threads if isinstance(workers, AutoWorkers) else workers
        return threads.threads if isinstance(threads, ThreadWorkers) else set()

    def terminate_workers(self) -> None:
        """As `ProcessPoolExecutor.terminate_workers` of 3.14: no more calls, and SIGTERM for all workers."""
        self._shut_down_by_force("terminate")

    def kill_workers(self) -> None:
        """As `ProcessPoolExecutor.kill_workers` of 3.14: no more calls, and SIGKILL for all workers."""
        self._shut_down_by_force("kill")

    def _shut_down_by_force(self, how: str) -> None:
        workers = self._workers
        has_threads = isinstance(workers, AutoWorkers) and workers.threads is not None
        if has_threads or isinstance(workers, ThreadWorkers):
            raise TypeError(f"{how}_workers() is for worker processes: threads cannot be ended by force")
        living = list(self._processes.values())
        if self._process_workers is not None:
            self._process_workers.end_by_force()
        self.shutdown(wait=False, cancel_futures=True)
        for worker in living:
            getattr(worker, how)()


class WithOptions:
    """An executor with options for its calls; see `Executor.options`."""

    def __init__(self, executor: Executor, options: Options) -> None:
        self._executor = executor
        self._options = options

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]:
        """As `Executor.submit`."""
        return self._executor._submit(self._options, fn, args, kwargs)


def _checked_count(name: str, value: int | None) -> int | None:
    if value is not None:
        if not isinstance(value, int):
            raise TypeError(f"{name} is to be a whole number, not {value!r}")
        if value <= 0:
            raise ValueError(f"{name} must be greater than 0")
    return value


def _end() -> None:
    """At the interpreter's exit: what was submitted is done, unless the user is in a hurry."""
    global _exiting
    _exiting = True
    interrupted = getattr(sys, "last_type", None)
    hurry = interrupted is not None and issubclass(interrupted, KeyboardInterrupt)
    processes.hurry_up()
    for executor in list(_open):
        executor.shutdown(kill=hurry)


# As concurrent.futures: before the interpreter waits for threads, so that theirs can be told to end.
threading._register_atexit(_end)  # type: ignore[attr-defined]
