"""The pools that are compared, each behind the same few methods, each with two workers.

Run as a program with a pool's name, it imports that pool and prints its version as JSON: the harness asks in
a child process, so that a library that cannot be imported is an answer and not the run's end.
"""

import concurrent.futures
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable
from typing import Any

THREADS = "ThreadPoolExecutor"
FORK = "ProcessPoolExecutor, fork"
FORKSERVER = "ProcessPoolExecutor, forkserver"
POOL = "multiprocessing.Pool"
LOKY = "loky"
JOBLIB = "joblib"
DASK = "Dask"
RAY = "Ray"
MOTET = "motet"
MOTET_THREADS = "motet, threads"
# No pool: what the machine gives.
BARE = "bare processes"
POOLS = (THREADS, FORK, FORKSERVER, POOL, LOKY, JOBLIB, DASK, RAY, MOTET, MOTET_THREADS, BARE)
PACKAGES = {
    LOKY: "loky",
    JOBLIB: "joblib",
    DASK: "distributed",
    RAY: "ray",
    MOTET: "motet",
    MOTET_THREADS: "motet",
}

Function = Callable[..., Any]
Done = Callable[[Any], object]


class NoSuchPool(Exception):
    """There is no such pool on this Python; the text says why."""


class Futures:
    """A pool with the interface of `concurrent.futures`."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def call(self, function: Function, *arguments: Any) -> Any:
        """Make one call and wait for its result."""
        return self.executor.submit(function, *arguments).result()

    def run(self, function: Function, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Submit every call by itself, then wait for all results."""
        submit = self.executor.submit
        futures = [submit(function, *arguments) for arguments in calls]
        return [future.result() for future in futures]

    def submit(self, function: Function, arguments: tuple[Any, ...], done: Done) -> None:
        """Queue a call; `done` gets its result, or the exception."""

        def tell(future: Any) -> None:
            error = future.exception()
            done(future.result() if error is None else error)

        self.executor.submit(function, *arguments).add_done_callback(tell)

    def queue(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        """Queue a call; what is returned keeps its result."""
        return self.executor.submit(function, *arguments)

    def map(self, function: Function, items: Iterable[Any]) -> int:
        """Call the function with each item, in the library's own chunks; return the results' sum."""
        return sum(self.executor.map(function, items))

    def close(self) -> None:
        """End the workers."""
        self.executor.shutdown()


class Motet(Futures):
    """motet's executor; `motet.map` chooses its chunks."""

    def map(self, function: Function, items: Iterable[Any]) -> int:
        motet = importlib.import_module("motet")
        if not hasattr(motet, "map"):
            raise NoSuchPool("this motet has no map")
        return sum(motet.map(function, items, on="processes", workers=2))


class Bare(Futures):
    """Processes that take calls by a counter that they share, and return nothing: no pool does with less."""

    def __init__(self, workers: int) -> None:
        super().__init__(None)
        # Whoever measures may have threads.
        context = multiprocessing.get_context("spawn")
        self.counter = context.Value("q", 0)
        self.pipes = []
        self.processes = []
        for _ in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=_take_calls, args=(there, self.counter), daemon=True)
            process.start()
            # Its end alone is left, so that its death is seen.
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, function: Function, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        calls = list(calls)
        self.counter.value = 0
        for pipe in self.pipes:
            pipe.send((function, calls))
        for pipe in self.pipes:
            pipe.recv()
        return []

    def close(self) -> None:
        # Not by closing: whoever was forked in the meantime has the pipes too.
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()


def _take_calls(pipe: Any, counter: Any) -> None:
    while (work := pipe.recv()) is not None:
        function, calls = work
        while True:
            with counter:
                number = counter.value
                counter.value = number + 1
            if number >= len(calls):
                break
            function(*calls[number])
        pipe.send(None)


class Dask(Futures):
    """Dask's local cluster."""

    def __init__(self, workers: int) -> None:
        distributed = importlib.import_module("distributed")
        self.cluster = distributed.LocalCluster(
            workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        self.client = distributed.Client(self.cluster)
        super().__init__(self.client.get_executor(pure=False))

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


class Pool(Futures):
    """The pool of `multiprocessing`."""

    def __init__(self, workers: int) -> None:
        super().__init__(multiprocessing.get_context("fork").Pool(workers))

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.executor.apply(function, arguments)

    def run(self, function: Function, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        submit = self.executor.apply_async
        results = [submit(function, arguments) for arguments in calls]
        return [result.get() for result in results]

    def submit(self, function: Function, arguments: tuple[Any, ...], done: Done) -> None:
        self.executor.apply_async(function, arguments, callback=done, error_callback=done)

    def queue(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        return self.executor.apply_async(function, arguments)

    def close(self) -> None:
        self.executor.terminate()
        self.executor.join()


class Joblib(Futures):
    """joblib's `Parallel`, which has no calls of their own: one call is a list of one."""

    def __init__(self, workers: int) -> None:
        self.joblib = importlib.import_module("joblib")
        super().__init__(self.joblib.Parallel(workers).__enter__())

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.run(function, [arguments])[0]

    def run(self, function: Function, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        delayed = self.joblib.delayed(function)
        results: list[Any] = self.executor(delayed(*arguments) for arguments in calls)
        return results

    def map(self, function: Function, items: Iterable[Any]) -> int:
        return sum(self.run(function, ((item,) for item in items)))

    def close(self) -> None:
        self.executor.__exit__(None, None, None)


class Ray(Futures):
    """Ray on this machine alone."""

    def __init__(self, workers: int) -> None:
        self.ray = importlib.import_module("ray")
        # Its workers are to find the functions of these benchmarks.
        os.environ["PYTHONPATH"] = os.getcwd()
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        super().__init__(self.ray.init(num_cpus=workers, **options))
        self.remotes: dict[Function, Any] = {}

    def queue(self, function: Function, arguments: tuple[Any, ...]) -> Any:
        remote = self.remotes.get(function)
        if remote is None:
            remote = self.remotes[function] = self.ray.remote(function)
        return remote.remote(*arguments)

    def call(self, function: Function, *arguments: Any) -> Any:
        return self.ray.get(self.queue(function, arguments))

    def run(self, function: Function, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        results: list[Any] = self.ray.get([self.queue(function, arguments) for arguments in calls])
        return results

    def close(self) -> None:
        self.ray.shutdown()


def prepare(name: str) -> None:
    """Import what a pool is made with, so that the time for that is nobody's."""
    if name in PACKAGES:
        module = importlib.import_module(PACKAGES[name])
        if name in (MOTET, MOTET_THREADS):
            _ = module.Executor
    elif name != POOL:
        _ = concurrent.futures.ProcessPoolExecutor, concurrent.futures.ThreadPoolExecutor


def make(name: str, workers: int) -> Futures:
    """Make a pool; its workers may start now or with the first calls."""
    match name:
        case "ThreadPoolExecutor":
            return Futures(concurrent.futures.ThreadPoolExecutor(workers))
        case "ProcessPoolExecutor, fork" | "ProcessPoolExecutor, forkserver":
            context: Any = multiprocessing.get_context(name.rpartition(" ")[2])
            return Futures(concurrent.futures.ProcessPoolExecutor(workers, mp_context=context))
        case "multiprocessing.Pool":
            return Pool(workers)
        case "loky":
            return Futures(importlib.import_module("loky").ProcessPoolExecutor(workers))
        case "joblib":
            return Joblib(workers)
        case "Dask":
            return Dask(workers)
        case "Ray":
            return Ray(workers)
        case "bare processes":
            return Bare(workers)
        case "motet":
            return Motet(importlib.import_module("motet").Executor("processes", workers))
    try:
        return Motet(importlib.import_module("motet").Executor("threads", workers))
    except NotImplementedError:
        raise NoSuchPool("this motet's executor has no threads") from None


def describe(name: str) -> dict[str, object]:
    """Say which version of a pool is installed, and whether this process still holds a GIL with it."""
    if name == MOTET_THREADS and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise NoSuchPool("needs a Python without GIL: with one, threads take turns")
    prepare(name)
    version = importlib.metadata.version(PACKAGES[name]) if name in PACKAGES else sys.version.split()[0]
    gil_enabled = getattr(sys, "_is_gil_enabled", None)
    return {"version": version, "gil": True if gil_enabled is None else gil_enabled()}


if __name__ == "__main__":
    try:
        print(json.dumps(describe(sys.argv[1])))
    except NoSuchPool as reason:
        sys.exit(str(reason))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
