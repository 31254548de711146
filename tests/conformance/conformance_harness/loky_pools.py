"""motet's executor in the place of loky's, for loky's own tests of it.

Arguments and names are translated. What loky does and motet does not, such as ending idle workers or changing
the number of workers, is not made up for here.
"""

import concurrent.futures
import importlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import motet
from motet._executor.errors import RemoteTraceback

from .paths import CONFORMANCE

MODULES = ["test_process_executor_loky", "test_reusable_executor"]
# Read by `startup/sitecustomize.py`.
VARIABLE = "MOTET_CONFORMANCE_LOKY"
# loky's tests count the children of processes that have the first name in their command line, and motet's
# zygote has. The other spares each worker the time for importing the tests.
PRELOAD = ("multiprocessing.forkserver", "tests._test_process_executor")

_on_made: Callable[[], object] = int


class Flags:
    """The state of an executor under loky's names; it outlives the executor."""

    def __init__(self, workers: Any) -> None:
        self._workers = workers

    @property
    def broken(self) -> BaseException | None:
        """What has broken the pool."""
        broken: BaseException | None = self._workers.broken
        return broken

    @property
    def shutdown(self) -> bool:
        """Whether no more calls are taken."""
        return bool(self._workers._closing)


class ProcessPoolExecutor(motet.Executor):
    """`motet.Executor` with the arguments of loky's class, and as final about dead workers as that."""

    def __init__(
        self,
        max_workers: int | None = None,
        job_reducers: dict[type, Any] | None = None,
        result_reducers: dict[type, Any] | None = None,
        timeout: float | None = None,
        context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        if job_reducers or result_reducers:
            raise NotImplementedError("motet has no job_reducers: classes say how they are pickled")
        _on_made()
        super().__init__(
            "processes",
            max_workers,
            mp_context=context,
            initializer=begin,
            initargs=(dict(env or {}), initializer, initargs),
            preload=PRELOAD,
            strict=True,
        )
        self._timeout = timeout
        self._flags = Flags(self._workers)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As motet's; but all workers are started with the first call, for loky's tests count them."""
        try:
            future = super().submit(fn, *args, **kwargs)
        except concurrent.futures.BrokenExecutor:
            raise
        except RuntimeError as error:
            # loky has a class of its own for this.
            shutdown: type[Exception] = importlib.import_module("loky.process_executor").ShutdownExecutorError
            raise shutdown(str(error)) from error
        workers: Any = self._workers
        while len(workers.workers) < workers.settings.workers and workers.broken is None:
            workers._grow()
        return future

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **ignored: Any,
    ) -> Iterator[Any]:
        """As motet's. loky ignores other arguments."""
        return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)

    def shutdown(  # type: ignore[override]
        self, wait: bool = True, kill_workers: bool = False, *, kill: bool = False
    ) -> None:
        """As motet's, with loky's name for `kill`."""
        super().shutdown(wait, kill=kill or kill_workers)


class ReusablePoolExecutor(ProcessPoolExecutor):
    """One executor for each thread, made anew when it cannot be used, or is wanted with other arguments."""

    _kept = threading.local()

    @classmethod
    def get_reusable_executor(
        cls,
        max_workers: int | None = None,
        kill_workers: bool = False,
        reuse: bool | str = "auto",
        timeout: float | None = 10,
        **arguments: Any,
    ) -> tuple[ProcessPoolExecutor, bool]:
        """The thread's executor, and whether it was there before."""
        executor, before = getattr(cls._kept, "executor", None), getattr(cls._kept, "arguments", {})
        wanted = {**arguments, "timeout": timeout, "max_workers": max_workers}
        if reuse is True and executor is not None:
            wanted = {**before, "max_workers": max_workers or before["max_workers"]}
        usable = executor is not None and executor._flags.broken is None and not executor._flags.shutdown
        if usable and reuse is not False and wanted == before:
            return executor, True
        made = cls(**wanted)
        if executor is not None:
            executor.shutdown(wait=True, kill_workers=kill_workers)
        cls._kept.executor, cls._kept.arguments = made, wanted
        return made, False


def get_reusable_executor(*arguments: Any, **more: Any) -> ProcessPoolExecutor:
    """loky's function of this name."""
    return ReusablePoolExecutor.get_reusable_executor(*arguments, **more)[0]


def begin(
    environment: dict[str, str], initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    """In a worker: its environment, and a name by which tests know that they run in one."""
    os.environ.update(environment)
    multiprocessing.current_process().name = "MotetWorker"
    if initializer is not None:
        initializer(*initargs)


def use_motet() -> None:
    """Put motet's classes where programs look for loky's."""
    loky, process_executor, reusable_executor = (
        importlib.import_module(name) for name in ("loky", "loky.process_executor", "loky.reusable_executor")
    )
    names = {
        "ProcessPoolExecutor": ProcessPoolExecutor,
        "BrokenProcessPool": BrokenProcessPool,
        "TerminatedWorkerError": motet.WorkerDied,
        "get_reusable_executor": get_reusable_executor,
        "_ReusablePoolExecutor": ReusablePoolExecutor,
        "_RemoteTraceback": RemoteTraceback,
    }
    for module in (loky, process_executor, reusable_executor):
        vars(module).update({name: value for name, value in names.items() if name in vars(module)})


def use_motet_for_suite(tests: Path, on_made: Callable[[], object]) -> None:
    """Do so for the suite, which is imported next, and for all interpreters that it starts.

    `tests` is the folder that holds it; `on_made` is called for each executor that it makes.
    """
    global _on_made
    _on_made = on_made
    use_motet()
    os.environ[VARIABLE] = "1"
    search_path = [CONFORMANCE / "conformance_harness/startup", CONFORMANCE, tests]
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, search_path))
