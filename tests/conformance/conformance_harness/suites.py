"""The suites that can be run: where their modules are, and which classes of them concern the loop."""

import importlib
import importlib.util
import sys
import unittest
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from . import executors, loky_pools, multiprocessing_pools, native_tasks, source_distributions
from .source_distributions import Unavailable


@dataclass(frozen=True)
class Suite:
    """One project's test suite."""

    name: str
    title: str
    package: str
    list_modules: Callable[[], list[str]]
    prepare: Callable[[], list[str]]
    concerns_loop: Callable[[type[unittest.TestCase]], bool]
    native_tasks: bool = False
    native_streams: bool = False
    # A kind of `executors`.
    executors: str | None = None
    multiprocessing_pools: bool = False
    loky_pools: bool = False

    def needs_motet(self) -> bool:
        """Whether the suite says nothing about other loops."""
        return (
            self.native_tasks
            or self.native_streams
            or self.executors is not None
            or self.multiprocessing_pools
            or self.loky_pools
        )

    def unavailable(self) -> str | None:
        """Why the suite cannot run here, or None when it can."""
        try:
            self.prepare()
        except Unavailable as reason:
            return str(reason)
        return None

    def short_name(self, test_id: str) -> str:
        """A test's name without the package: `module.Class.test`."""
        return test_id.replace(f"{self.package}.", "", 1)


def _cpython_folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def _cpython_modules(package: str = "test.test_asyncio") -> list[str]:
    folder = _cpython_folder(package)
    return sorted(path.stem for path in folder.glob("test_*.py")) if folder else []


def _prepare_cpython(package: str = "test.test_asyncio") -> list[str]:
    if _cpython_folder(package) is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise Unavailable(
            f"this Python has no {package} (on Debian: apt install libpython{version}-testsuite)"
        )
    return []


# Static, so that the modules can be listed without a download; a test compares it with the pinned source.
UVLOOP_MODULES = [
    "test_aiohttp", "test_base", "test_context", "test_dns", "test_executors", "test_pipes", "test_process",
    "test_signals", "test_sockets", "test_tcp", "test_udp", "test_unix",
]  # fmt: skip


def _prepare(source: source_distributions.SourceDistribution) -> list[str]:
    source.ensure_installed()
    return [str(source.ensure_tests())]


def _asks_asyncio(case: type[unittest.TestCase]) -> bool:
    base: type[unittest.TestCase] = importlib.import_module("uvloop._testbase").AIOTestCase
    return issubclass(case, base)


CPYTHON = Suite(
    "cpython",
    "CPython's test.test_asyncio",
    "test.test_asyncio",
    _cpython_modules,
    _prepare_cpython,
    lambda case: True,
)
UVLOOP = Suite(
    "uvloop",
    f"uvloop {source_distributions.UVLOOP.version}'s tests (AIO classes)",
    "tests",
    lambda: list(UVLOOP_MODULES),
    lambda: _prepare(source_distributions.UVLOOP),
    _asks_asyncio,
)
NATIVE_TASKS = Suite(
    "native-tasks",
    "CPython's tests of tasks, on motet's own tasks",
    "test.test_asyncio",
    lambda: [name for name in _cpython_modules() if name in native_tasks.MODULES],
    _prepare_cpython,
    native_tasks.concerns_native_tasks,
    native_tasks=True,
)
NATIVE_STREAMS = replace(
    CPYTHON,
    name="native-streams",
    title="CPython's test_streams on native streams",
    list_modules=lambda: [module for module in _cpython_modules() if module == "test_streams"],
    native_streams=True,
)
_POOLS = "test.test_concurrent_futures"


def _prepare_executors(kind: str) -> list[str]:
    if importlib.util.find_spec(f"concurrent.futures.{executors.KINDS[kind].home}") is None:
        raise Unavailable("this Python has no interpreters")
    return _prepare_cpython(_POOLS)


def _of_executors(kind: str, name: str) -> Suite:
    return Suite(
        name,
        f"CPython's test.test_concurrent_futures on motet's {kind}",
        _POOLS,
        lambda: [module for module in _cpython_modules(_POOLS) if module in executors.KINDS[kind].modules],
        lambda: _prepare_executors(kind),
        executors.concerns(kind),
        executors=kind,
    )


PROCESS_POOLS = _of_executors("processes", "process-pools")
THREAD_POOLS = _of_executors("threads", "thread-pools")
INTERPRETER_POOLS = _of_executors("interpreters", "interpreter-pools")
_MULTIPROCESSING = "test.test_multiprocessing_spawn"
MULTIPROCESSING_POOLS = Suite(
    "multiprocessing-pools",
    "CPython's tests of multiprocessing.Pool on motet's pools",
    _MULTIPROCESSING,
    lambda: [name for name in _cpython_modules(_MULTIPROCESSING) if name in multiprocessing_pools.MODULES],
    lambda: _prepare_cpython(_MULTIPROCESSING),
    multiprocessing_pools.concerns_pools,
    multiprocessing_pools=True,
)
LOKY = Suite(
    "loky",
    f"loky {source_distributions.LOKY.version}'s tests of its executors, on motet's processes",
    "tests",
    lambda: list(loky_pools.MODULES),
    lambda: _prepare(source_distributions.LOKY),
    lambda case: True,
    loky_pools=True,
)
_ALL = (
    CPYTHON, NATIVE_STREAMS, NATIVE_TASKS, UVLOOP, PROCESS_POOLS, THREAD_POOLS, INTERPRETER_POOLS,
    MULTIPROCESSING_POOLS, LOKY,
)  # fmt: skip
SUITES = {suite.name: suite for suite in _ALL}
