"""Runs a program as `python script.py` would, with asyncio giving out another event loop.

The program gets a `__main__` module of its own, which stays in `sys.modules` to the interpreter's end, so
that pickling, `multiprocessing` and exit handlers meet what they meet under plain python. (`runpy.run_path`
takes the module away again as soon as the script's last line is reached.)

Known differences: the launcher's frames lie below the program's on the stack (`sys._getframe`,
`faulthandler`), and processes that the program starts by `spawn`, `forkserver` or `subprocess` run on
asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import io
import os
import pkgutil
import runpy
import sys
from asyncio import events
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn, Protocol, TypeAlias

Program: TypeAlias = Callable[[], None]


class CannotOpen(Exception):
    """The script cannot be read."""


def install(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Make `factory` the source of every loop that the program asks asyncio for without naming a kind.

    Where Python has policies the default one is the only place to change: `asyncio.new_event_loop` asks the
    policy in force, so that a policy set by the program keeps its own loop.
    """
    policy = _default_policy()
    if policy is not None:
        policy._loop_factory = staticmethod(factory)
        return
    for module in (asyncio, events):
        module.__dict__["new_event_loop"] = factory


def _default_policy() -> Any:
    # By the name in the platform's module: the public one warns from Python 3.14 on.
    platform = sys.modules.get("asyncio.unix_events") or sys.modules.get("asyncio.windows_events")
    return getattr(platform, "_DefaultEventLoopPolicy", None) or getattr(
        platform, "DefaultEventLoopPolicy", None
    )


def watch_blocking(loop_class: Any, seconds: float) -> None:
    """Give every new loop of `loop_class` this threshold, also those that asyncio was not asked for."""
    initialize = loop_class.__init__

    @wraps(initialize)
    def initialize_with_threshold(loop: Any, *arguments: Any, **named: Any) -> None:
        initialize(loop, *arguments, **named)
        loop.blocked_threshold = seconds

    loop_class.__init__ = initialize_with_threshold


class Observer(Protocol):
    """Who wants to hear of the program's loops, on whatever thread they are."""

    def created(self, loop: Any) -> None:
        """A loop of the observed class was made."""

    def closed(self, loop: Any) -> None:
        """A loop of the observed class was closed, perhaps not for the first time."""

    def other(self, loop: Any) -> None:
        """A loop of another class begins to run, perhaps not for the first time."""


def observe(loop_class: Any, observer: Observer) -> None:
    """Tell `observer` of every loop of `loop_class`, and of others that announce themselves to asyncio."""
    initialize, close, announce = loop_class.__init__, loop_class.close, events._set_running_loop

    @wraps(initialize)
    def observed_initialize(loop: Any, *arguments: Any, **named: Any) -> None:
        initialize(loop, *arguments, **named)
        observer.created(loop)

    @wraps(close)
    def observed_close(loop: Any) -> None:
        close(loop)
        observer.closed(loop)

    @wraps(announce)
    def observed_announce(loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None and not isinstance(loop, loop_class):
            observer.other(loop)
        announce(loop)

    loop_class.__init__ = observed_initialize
    loop_class.close = observed_close
    for module in (asyncio, events):
        module.__dict__["_set_running_loop"] = observed_announce


def load_module(name: str, arguments: Sequence[str]) -> Program:
    """The program that `python -m name` runs."""

    def program() -> None:
        _put_first(os.getcwd())
        # What python shows to the module's packages until the module is found.
        sys.argv[:] = ["-m", *arguments]
        _fresh_main()
        _run_as_main(name, True)

    return program


def load_path(path: str, arguments: Sequence[str]) -> Program:
    """The program that `python path` runs: a script, a directory or zip file with `__main__.py`, or `-`."""
    # Joined but not normalized, as in python: ./script.py keeps its "./" in __file__ and in tracebacks.
    full_path = path if path == "-" else os.path.join(os.getcwd(), path)
    if path != "-" and pkgutil.get_importer(full_path) is not None:
        return _load_container(full_path, [path, *arguments])
    try:
        content = sys.stdin.buffer.read() if path == "-" else _read(full_path)
    except OSError as error:
        raise CannotOpen(f"can't open file {full_path!r}: [Errno {error.errno}] {error.strerror}") from None

    def program() -> None:
        sys.argv[:] = [path, *arguments]
        compiled: CodeType | None = pkgutil.read_code(io.BytesIO(content))
        file = "<stdin>" if path == "-" else full_path
        main = _fresh_main()
        main.__file__ = file
        if sys.version_info < (3, 15):
            main.__cached__ = None
        if path == "-":
            main.__loader__ = BuiltinImporter
            _put_first("")
        else:
            kind = SourceFileLoader if compiled is None else SourcelessFileLoader
            main.__loader__ = kind("__main__", file)
            _put_first(os.path.dirname(os.path.realpath(file)))
        exec(compiled or compile(content, file, "exec", dont_inherit=True), main.__dict__)

    return program


def _load_container(full_path: str, words: list[str]) -> Program:
    def program() -> None:
        sys.argv[:] = words
        if sys.flags.safe_path:
            sys.path.insert(0, full_path)
        else:
            _put_first(full_path)
        _fresh_main()
        _run_as_main("__main__", False)

    return program


def _read(path: str) -> bytes:
    with io.open_code(path) as stream:
        return stream.read()


def _put_first(entry: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = entry


def _fresh_main() -> Any:
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main
    return main


# What the interpreter itself calls for -m and for directories and zip files.
_run_as_main: Callable[[str, bool], object] = getattr(runpy, "_run_module_as_main")  # noqa: B009


def run(program: Program) -> None:
    """Run the program; what it raises goes on to the interpreter, to be treated as python treats it."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        _raise_as_program(error)


def _raise_as_program(error: BaseException) -> NoReturn:
    """Raise `error` to the interpreter, whose report of it then shows the program's frames only.

    The interpreter adds every frame that the exception leaves, so the traceback is put right where it is
    handed to `sys.excepthook`; the hook in force before is back when that hook and the exit handlers run.
    """
    traceback = _program_part(error.__traceback__)
    hook = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
        sys.excepthook = hook
        sys.last_traceback = traceback
        hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = show
    raise error


def _program_part(traceback: TracebackType | None) -> TracebackType | None:
    launchers = (run.__code__.co_filename, runpy.run_module.__code__.co_filename)
    while traceback is not None and traceback.tb_frame.f_code.co_filename in launchers:
        traceback = traceback.tb_next
    return traceback
