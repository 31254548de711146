"""A worker process: what it is before its first call, and how calls come in and results go out."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import sys
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from . import namespaces, starting
from .calls import CallStopped
from .errors import NotShippable
from .shipping import dump_result, load_call, load_function
from .travelling_errors import dump_exception
from .zygote import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from .zygote_messages import Spawn

# With this signal the parent says that it wants the call stopped that runs now. One that programs hardly use.
STOP_SIGNAL = signal.SIGRTMIN + 7

# Of this process, if it is a worker.
current: _motet.Worker | None = None


class Setup(NamedTuple):
    """What a worker does before its first call. `initializer` is a pickled function with its arguments.

    `threads` is how many threads libraries for linear algebra may start (None: as many as they like),
    `log_level` from which level on records go to the parent (None: they are the worker's own matter),
    `arena_limit` in bytes.
    """

    initializer: bytes | None
    threads: int | None
    log_level: int | None
    arena_limit: int


class _Policy:
    """How calls come in and results go out, for the core."""

    @staticmethod
    def load_function(blob: bytes) -> Callable[..., Any]:
        return load_function(blob)

    @staticmethod
    def load_call(data: bytes, buffers: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return load_call(data, buffers)

    @staticmethod
    def dump_result(value: object) -> tuple[bytes, list[Any]]:
        outside: list[Any] = []
        try:
            return dump_result(value, outside.append), outside
        except NotShippable:
            if not isinstance(value, CoroutineType):
                raise
            value.close()
            raise TypeError(
                f"{value.__qualname__}() is a coroutine function, which a worker process does not await. Use "
                "Executor('auto') or motet.map, which run it on an event loop, or send a function that calls "
                "asyncio.run()"
            ) from None

    @staticmethod
    def dump_exception(error: BaseException) -> tuple[bytes, bool]:
        if isinstance(error, CallStopped):
            return b"", True
        return dump_exception(error), False


def main(request: Spawn, descriptors: list[int], zygote: int) -> int:
    """Be a worker; returns the process's exit status."""
    lane, bell, control, output, errors, *inherited = descriptors
    _motet._become_worker(zygote)
    os.setpgid(0, 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    _settle(request)
    setup: Setup = pickle.loads(request.setup)
    _motet._set_arena_limit(setup.arena_limit)
    global current
    worker = current = _motet.Worker(lane, bell, control, _Policy)
    if setup.log_level is not None:
        from . import log_records

        log_records.install(worker.log, setup.log_level)
    if setup.threads is not None:
        _limit_threads(setup.threads)

    def stop(number: int, frame: FrameType | None) -> None:
        if worker.must_stop():
            raise CallStopped

    signal.signal(STOP_SIGNAL, stop)
    sys.unraisablehook = partial(worker.unraisable, CallStopped, STOP_SIGNAL)
    try:
        if setup.initializer is not None:
            initializer, initargs = starting.load(setup.initializer, inherited)
            initializer(*initargs)
            namespaces.keep()
    except BaseException as error:
        worker.fail(dump_exception(error))
        _log_failure()
        _leave()
        return 1
    worker.run()
    _leave()
    return 0


def _settle(request: Spawn) -> None:
    """Make this process like the one that wants it."""
    sys.path[:] = request.path
    sys.argv[:] = request.arguments
    if request.folder is not None:
        with contextlib.suppress(OSError):
            os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    if request.authentication is not None:
        _be_a_process(request.name, request.authentication)
    # Whole lines, as they are written.
    sys.stdout = _lines(1)
    sys.stderr = _lines(2)
    # The standard library's `random` does so itself.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _be_a_process(name: str, authentication: bytes) -> None:
    """What programs ask multiprocessing about the process that they run in."""
    from multiprocessing.process import current_process

    process: Any = current_process()
    process.authkey = authentication
    process.name = name
    process._identity = (int(name.rpartition("-")[2]),)


def _lines(descriptor: int) -> io.TextIOWrapper:
    """A text stream that passes whole lines on as they are written."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _limit_threads(count: int) -> None:
    """Have libraries for linear algebra start few threads: those to come, and those here."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(count))
    if "numpy" in sys.modules:
        import threadpoolctl  # type: ignore[import-untyped]

        threadpoolctl.threadpool_limits(count)


def _log_failure() -> None:
    """As `concurrent.futures` does, for handlers that the initializer has installed."""
    if "logging" in sys.modules:
        import logging

        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)


def _leave() -> None:
    """What a process does at its end, as far as a call's program may have asked for it."""
    import atexit

    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
