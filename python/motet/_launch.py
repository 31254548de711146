"""Runs a program as `python script.py` would.

The program gets a `__main__` module of its own, which stays in `sys.modules` to the interpreter's end, so
that pickling, `multiprocessing` and exit handlers meet what they meet under plain python. (`runpy.run_path`
takes the module away again as soon as the script's last line is reached.)

Known differences: the launcher's frames lie below the program's on the stack (`sys._getframe`,
`faulthandler`), and processes that the program starts by `spawn`, `forkserver` or `subprocess` run on
asyncio's own loop.
"""

from __future__ import annotations

import io
import os
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import ModuleType

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, FunctionType, TracebackType
    from typing import Any, NoReturn


class CannotOpen(Exception):
    """The script cannot be read."""


def load_module(name: str, arguments: Sequence[str]) -> Callable[[], None]:
    """The program that `python -m name` runs."""

    run_as_main = _runner_of_modules()

    def program() -> None:
        _put_first(os.getcwd())
        # What python shows to the module's packages until the module is found.
        sys.argv[:] = ["-m", *arguments]
        _fresh_main()
        run_as_main(name, True)

    return program


def load_path(path: str, arguments: Sequence[str]) -> Callable[[], None]:
    """The program that `python path` runs: a script, a directory or zip file with `__main__.py`, or `-`."""
    # Joined but not normalized, as in python: ./script.py keeps its "./" in __file__ and in tracebacks.
    full_path = path if path == "-" else os.path.join(os.getcwd(), path)
    if path != "-" and _holds_modules(full_path):
        return _load_container(full_path, [path, *arguments])
    try:
        content = sys.stdin.buffer.read() if path == "-" else _read(full_path)
    except OSError as error:
        raise CannotOpen(f"can't open file {full_path!r}: [Errno {error.errno}] {error.strerror}") from None

    def program() -> None:
        sys.argv[:] = [path, *arguments]
        compiled = _compiled(content)
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


def _load_container(full_path: str, words: list[str]) -> Callable[[], None]:
    run_as_main = _runner_of_modules()

    def program() -> None:
        sys.argv[:] = words
        if sys.flags.safe_path:
            sys.path.insert(0, full_path)
        else:
            _put_first(full_path)
        _fresh_main()
        run_as_main("__main__", False)

    return program


def _holds_modules(path: str) -> bool:
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _read(path: str) -> bytes:
    with io.open_code(path) as stream:
        return stream.read()


def _compiled(content: bytes) -> CodeType | None:
    # How the magic number of every Python ends.
    if content[2:4] != b"\r\n":
        return None
    from pkgutil import read_code

    code: CodeType | None = read_code(io.BytesIO(content))
    return code


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


def _runner_of_modules() -> Callable[[str, bool], object]:
    """What the interpreter itself calls for -m and for directories and zip files."""
    import runpy

    runner: FunctionType = getattr(runpy, "_run_module_as_main")  # noqa: B009
    _LAUNCHERS.add(runner.__code__.co_filename)
    return runner


def run(program: Callable[[], None]) -> None:
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


# The files whose frames lie below the program's.
_LAUNCHERS = {run.__code__.co_filename}


def _program_part(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _LAUNCHERS:
        traceback = traceback.tb_next
    return traceback
