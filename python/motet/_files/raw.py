"""Raw files: each call is one request to the system, and returns a future that nobody must cancel."""

import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .. import _motet
from .._loop import EventLoop

Opener = Callable[[Any, int], int]
T = TypeVar("T")


class RawFile(Protocol):
    """What a file without a buffer can do."""

    def fileno(self) -> int: ...
    def read(self, size: int) -> asyncio.Future[bytes]: ...
    def read_rest(self) -> asyncio.Future[bytes]: ...
    def write(self, data: bytes) -> asyncio.Future[int]: ...
    def truncate(self, size: int) -> asyncio.Future[int]: ...
    def sync(self) -> asyncio.Future[int]: ...
    def close(self) -> asyncio.Future[int]: ...
    def abandon(self) -> None: ...


class CoreFile:
    """A raw file of the core, for motet's loop."""

    def __init__(self, loop: EventLoop, file: _motet.File) -> None:
        self._loop = loop
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> asyncio.Future[bytes]:
        return self._file.read(self._loop, size)

    def read_rest(self) -> asyncio.Future[bytes]:
        return self._file.read_rest(self._loop)

    def write(self, data: bytes) -> asyncio.Future[int]:
        return self._file.write(self._loop, data)

    def truncate(self, size: int) -> asyncio.Future[int]:
        return self._file.truncate(self._loop, size)

    def sync(self) -> asyncio.Future[int]:
        return self._file.sync(self._loop)

    def close(self) -> asyncio.Future[int]:
        return self._file.close(self._loop)

    def abandon(self) -> None:
        """It closes itself when it goes."""


class ThreadFile:
    """The standard library's raw file, called in threads of the loop's executor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, file: io.FileIO) -> None:
        self._loop = loop
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(None, self._file.read, size)

    def read_rest(self) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(None, self._file.readall)

    def write(self, data: bytes) -> asyncio.Future[int]:
        return self._loop.run_in_executor(None, self._write_all, data)

    def _write_all(self, data: bytes) -> int:
        written = self._file.write(data) or 0
        while written < len(data):
            try:
                written += self._file.write(memoryview(data)[written:]) or 0
            except OSError:
                # What was written must be known; the error comes again with the next attempt.
                break
        return written

    def truncate(self, size: int) -> asyncio.Future[int]:
        return self._loop.run_in_executor(None, self._file.truncate, size)

    def sync(self) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(None, os.fsync, self._file.fileno())

    def close(self) -> asyncio.Future[Any]:
        return self._loop.run_in_executor(None, self._file.close)

    def abandon(self) -> None:
        self._file.close()


async def discarding(request: asyncio.Future[T], discard: Callable[[T], object]) -> T:
    """Waits for what a thread opens; closes that if the caller is cancelled meanwhile."""
    try:
        return await asyncio.shield(request)
    except asyncio.CancelledError:

        def ended(request: asyncio.Future[T]) -> None:
            if not request.cancelled() and request.exception() is None:
                discard(request.result())

        request.add_done_callback(ended)
        raise


async def open_raw(
    loop: asyncio.AbstractEventLoop, file: Any, mode: str, flags: int, closefd: bool, opener: Opener | None
) -> RawFile:
    """Opens a raw file; `mode` and `flags` say the same, to the standard library and to the system."""
    if not isinstance(loop, EventLoop):
        request = loop.run_in_executor(None, io.FileIO, file, mode, closefd, opener)
        return ThreadFile(loop, await discarding(request, io.FileIO.close))
    sys.audit("open", file, mode.replace("b", ""), flags | os.O_CLOEXEC)
    if isinstance(file, int):
        if file < 0:
            raise ValueError("negative file descriptor")
        opened = _motet.File(file, closefd)
    elif opener is not None:
        opening = loop.run_in_executor(None, opener, file, flags | os.O_CLOEXEC)
        descriptor = await discarding(opening, os.close)
        if descriptor < 0:
            raise ValueError(f"opener returned {descriptor}")
        os.set_inheritable(descriptor, False)
        try:
            opened = _motet.File(descriptor, True)
        except OSError as error:
            os.close(descriptor)
            error.filename = file
            raise
    else:
        opened = await _motet._open_file(loop, file, flags)
    if flags & os.O_APPEND:
        # As the built-in does, where there is a position.
        with contextlib.suppress(OSError):
            os.lseek(opened.fileno(), 0, os.SEEK_END)
    return CoreFile(loop, opened)
