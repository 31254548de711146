"""A worker process: what it is before its first call, and how calls come in and results go out."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from .shipping import dump_result, load_call, load_function
from .travelling_errors import dump_exception
from .zygote import THREAD_VARIABLES

if TYPE_CHECKING:
    from types import FrameType

    from .zygote import Spawn

# With this signal the parent says that it wants the call stopped that runs now. One that programs hardly use.
STOP_SIGNAL = signal.SIGRTMIN + 7


class CallStopped(BaseException):
    """Raised in a call that is to end: its time is up, or it was cancelled. Not for programs to catch."""


class Setup(NamedTuple):
    """What a worker does before its first call. `initializer` is a pickled function with its arguments.

    `threads` is how many threads libraries for linear algebra may start (None: as many as they like), `log_level` from
    which level on records go to the parent (None: they are the worker's own matter), `arena_limit` in bytes.
    """

    initializer: bytes | None
    threads: int | None
    log_level: int | None
    arena_limit: int


class _Policy:
    """How calls come in and results go out, for the core."""

    load_function = staticmethod(load_function)
    load_call = staticmethod(load_call)

    @staticmethod
    def dump_result(value: object) -> tuple[bytes, list[Any]]:
        outside: list[Any] = []
        return dump_result(value, outside.append), outside

    @staticmethod
    def dump_exception(error: BaseException) -> tuple[bytes, bool]:
        if isinstance(error, CallStopped):
            return b"", True
        return dump_exception(error), False


def main(request: Spawn, descriptors: list[int], zygote: int) -> int:
    """Be a worker; returns the process's exit status."""
    lane, bell, control, output, errors = descriptors
    _motet._become_worker(zygote)
    os.setpgid(0, 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    _settle(request)
    setup: Setup = pickle.loads(request.setup)
    _motet._set_arena_limit(setup.arena_limit)
    worker = _motet.Worker(lane, bell, control, _Policy)
    if setup.log_level is not None:
        from . import log_records

        log_records.install(worker.log, setup.log_level)
    if setup.threads is not None:
        _limit_threads(setup.threads)

    def stop(number: int, frame: FrameType | None) -> None:
        if worker.must_stop():
            raise CallStopped

    signal.signal(STOP_SIGNAL, stop)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        if setup.initializer is not None:
            initializer, initargs = pickle.loads(setup.initializer)
            initializer(*initargs)
    except BaseException as error:
        worker.fail(dump_exception(error))
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
    # Whole lines, as they are written.
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _limit_threads(count: int) -> None:
    """Have libraries for linear algebra start few threads: those that come by the variables, those that are here directly."""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(count))
    if "numpy" in sys.modules:
        import threadpoolctl

        threadpoolctl.threadpool_limits(count)


def _leave() -> None:
    """What a process does at its end, as far as a call's program may have asked for it."""
    import atexit

    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
