"""`motet.open`: the arguments of the built-in `open`, checked at the call."""

import asyncio
import builtins
import functools
import io
import os
from collections.abc import Awaitable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from .binary import AsyncBinaryFile
from .raw import Opener, discarding, open_raw
from .text import AsyncTextFile
from .turns import AsyncFile

if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

F = TypeVar("F", bound=AsyncFile[Any])

FLAGS = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "x": os.O_CREAT | os.O_EXCL,
    "a": os.O_CREAT | os.O_APPEND,
}


class Opening(Awaitable[F], Generic[F]):
    """What `motet.open()` returns: `await` it for the file, or use it in `async with`, which closes that."""

    def __init__(self, opening: Coroutine[Any, Any, F]) -> None:
        # What the interpreter calls it if nobody awaits it.
        opening.__qualname__ = "motet.open"  # type: ignore[attr-defined]
        self._opening = opening
        self._file: F | None = None

    def __await__(self) -> Generator[Any, Any, F]:
        return self._opening.__await__()

    async def __aenter__(self) -> F:
        self._file = await self
        return self._file

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            await self._file.close()

    # Type checkers know what there is.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{name!r} of what motet.open() returns: await that for the file, or use it in 'async with'"
            )


@overload
def open(
    file: "FileDescriptorOrPath",
    mode: "OpenTextMode" = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[AsyncTextFile]: ...
@overload
def open(
    file: "FileDescriptorOrPath",
    mode: "OpenBinaryMode",
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[AsyncBinaryFile]: ...
@overload
def open(
    file: "FileDescriptorOrPath",
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]: ...
def open(
    file: "FileDescriptorOrPath",
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]:
    """Opens a file, with the arguments of the built-in `open`, for use without blocking the event loop.

    `await` it, or use it in `async with`. Wrong arguments are refused at the call, in the built-in's words;
    what goes wrong in opening is raised where it is awaited.
    """
    if not isinstance(file, int):
        file = os.fspath(file)
        if b"\0" in os.fsencode(file):
            raise ValueError("embedded null byte")
    binary = isinstance(mode, str) and "b" in mode
    if not binary:
        encoding = io.text_encoding(encoding)
    words = (mode, buffering, encoding, errors, newline, closefd or isinstance(file, int))
    # What has a warning is looked at each time, and what cannot be compared is wrong.
    known = all(isinstance(word, str | int | None) for word in words) and buffering != 1
    (_checked if known else _check)(*words)
    opening: Coroutine[Any, Any, AsyncFile[Any]]
    if binary:
        opening = _open_binary(file, mode, buffering, closefd, opener)
    else:
        opening = _open_text(file, mode, (buffering, encoding, errors, newline), closefd, opener)
    return Opening(opening)


class _Fine(Exception):
    """The built-in would open the file now."""


def _stop(_path: Any, _flags: int) -> int:
    raise _Fine


def _check(mode: str, *words: Any) -> None:
    """Has the built-in look at the arguments, but not open a file."""
    try:
        builtin: Any = builtins.open
        builtin(".", mode, *words, _stop)
    except _Fine:
        return


_checked = functools.lru_cache(_check)


async def _open_binary(
    file: Any, mode: str, buffering: int, closefd: bool, opener: Opener | None
) -> AsyncBinaryFile:
    kind = next(kind for kind in FLAGS if kind in mode)
    updating = "+" in mode
    readable, writable = kind == "r" or updating, kind != "r" or updating
    access = os.O_RDWR if updating else os.O_WRONLY if writable else os.O_RDONLY
    loop = asyncio.get_running_loop()
    raw = await open_raw(loop, file, f"{kind}b{'+' * updating}", FLAGS[kind] | access, closefd, opener)
    return AsyncBinaryFile(
        loop,
        raw,
        file,
        _shown(kind, updating),
        readable=readable,
        writable=writable,
        # One line at a time is for text: the built-in has warned of it.
        buffering=-1 if buffering == 1 else buffering,
    )


def _shown(kind: str, updating: bool) -> str:
    """The mode as the built-in binary file gives it."""
    if kind in "xa":
        return f"{kind}b{'+' * updating}"
    return "rb+" if updating else f"{kind}b"


async def _open_text(
    file: Any, mode: str, given: tuple[int, Any, Any, Any], closefd: bool, opener: Opener | None
) -> AsyncTextFile:
    loop = asyncio.get_running_loop()
    request = loop.run_in_executor(None, io.open, file, mode, *given, closefd, opener)
    opened: Any = await discarding(request, lambda opened: opened.close())
    return AsyncTextFile(loop, opened)
