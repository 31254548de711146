"""Binary files: buffered here, so that a call which needs no input or output does not wait either.

Either data that was read ahead lies in `_ahead`, from `_at` on, or data that was written and not yet
handed to the system lies in `_behind`; never both. The system's position is behind the one and before the
other.
"""

import asyncio
import io
import operator
import os
import sys
from typing import TYPE_CHECKING, Any

from .raw import RawFile
from .turns import AsyncFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# Large enough that the system's part counts for more than the loop's, small enough for the core's fast way.
BUFFER_SIZE = 32 * 1024

# Built-in files have some methods only with a buffer, or only for reading: what stands for these there.
STAND_INS = {"read1": "read", "peek": "read", "readinto1": "readinto"}


class AsyncBinaryFile(AsyncFile[bytes]):
    """An open binary file. Made by `motet.open()` only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        raw: RawFile,
        name: Any,
        mode: str,
        *,
        readable: bool,
        writable: bool,
        buffering: int,
    ) -> None:
        self._raw: RawFile | None = raw
        self._name = name
        self._mode = mode
        self._readable = readable
        self._writable = writable
        self._buffer_size = BUFFER_SIZE if buffering < 0 else buffering
        self._ahead = b""
        self._at = 0
        self._behind: list[bytes] = []
        self._behind_size = 0
        super().__init__(loop)

    @property
    def name(self) -> Any:
        """What the file was opened by: a path or a descriptor."""
        return self._name

    @property
    def mode(self) -> str:
        """The mode, as the built-in file gives it."""
        return self._mode

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._raw is None

    def fileno(self) -> int:
        """The descriptor's number."""
        self._check("fileno")
        return self._open_raw().fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self.fileno())

    def readable(self) -> bool:
        """Whether it can be read."""
        self._check("readable")
        return self._readable

    def writable(self) -> bool:
        """Whether it can be written."""
        self._check("writable")
        return self._writable

    def seekable(self) -> bool:
        """Whether it has a position that can be set."""
        try:
            os.lseek(self.fileno(), 0, os.SEEK_CUR)
        except OSError:
            return False
        return True

    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads `size` bytes, fewer only at the end; all that is left by default.

        A file without a buffer reads once and may give fewer.
        """
        # Nothing is ahead in a file that is closed or cannot be read.
        if type(size) is int and 0 < size <= self._available() and self._is_quiet():
            return self._take(size)
        size = self._size("read", size)
        if size < 0:
            async with self._turn:
                await self._begin_reading()
                await self._carry_out(self._open_raw().read_rest(), self._keep_ahead)
                return self._take(len(self._ahead))
        async with self._turn:
            await self._begin_reading()
            while self._available() < size and await self._fetch(size - self._available()):
                if not self._buffer_size:
                    break
        return self._take(size)

    async def read1(self, size: int = -1, /) -> bytes:
        """Reads at most `size` bytes, by at most one request to the system."""
        size = self._size("read1", size)
        if size < 0:
            size = self._buffer_size or BUFFER_SIZE
        async with self._turn:
            await self._begin_reading()
            if size and not self._available():
                await self._fetch(size)
        return self._take(size)

    async def peek(self, size: int = 0, /) -> bytes:
        """What comes next, without moving the position; at least a byte unless at the end."""
        self._size("peek", size)
        async with self._turn:
            await self._begin_reading()
            if not self._available():
                await self._fetch(1)
        return self._ahead[self._at :]

    async def readall(self) -> bytes:
        """Reads all that is left."""
        return await self.read()

    async def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Reads into `buffer`, and returns how much; less than it holds only at the end."""
        self._check_room("readinto", buffer)
        with memoryview(buffer) as view, view.cast("B") as room:
            data = await self.read(len(room))
            room[: len(data)] = data
            return len(data)

    async def readinto1(self, buffer: "WriteableBuffer", /) -> int:
        """As `readinto()`, by at most one request to the system."""
        self._check_room("readinto1", buffer)
        with memoryview(buffer) as view, view.cast("B") as room:
            data = await self.read1(len(room))
            room[: len(data)] = data
            return len(data)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Reads a line with its end, at most `size` bytes; nothing at the file's end."""
        size = self._size("readline", size)
        return await self._read_lines(0, size) if size else b""

    async def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Reads the lines that are left; with a `hint`, no more once they are longer together."""
        hint = self._size("readlines", hint)
        if hint <= 0:
            return io.BytesIO(await self.read()).readlines()
        return io.BytesIO(await self._read_lines(hint, -1)).readlines()

    async def _read_lines(self, least: int, most: int) -> bytes:
        """Reads to the end of the line that goes on behind the first `least` bytes."""
        found = self._line_end(least) if self._is_quiet() and self._raw is not None else -1
        if found < 0:
            async with self._turn:
                await self._begin_reading()
                looked = least
                while True:
                    found = self._line_end(looked)
                    looked = max(least, self._available())
                    # To ask for as much as there is keeps long lines from being copied over and over.
                    if found >= 0 or 0 <= most <= looked or not await self._fetch(looked or BUFFER_SIZE):
                        break
        length = found if found >= 0 else self._available()
        data = self._take(length if most < 0 else min(length, most))
        if not self._buffer_size and self._available() and self.seekable():
            self._step_back()
        return data

    async def write(self, data: "ReadableBuffer", /) -> int:
        """Writes, and returns how many bytes.

        They may lie in the buffer until `flush()` or `close()`. A file without a buffer hands them to the
        system at once, which may take fewer.
        """
        if type(data) is not bytes or not self._writable or self._raw is None:
            if not (self._writable and self._raw is not None and _is_bytes_like(data)):
                self._as_builtin("write", data)
            data = bytes(memoryview(data))
        if not self._buffer_size:
            return await self._write_unbuffered(data)
        room = self._buffer_size - self._behind_size
        if len(data) <= room and not self._available() and self._is_quiet():
            self._append(data)
            return len(data)
        async with self._turn:
            await self._begin_writing()
            if len(data) > self._buffer_size - self._behind_size:
                await self._hand_over()
            self._append(data)
            if self._behind_size > self._buffer_size:
                await self._hand_over()
        return len(data)

    async def flush(self) -> None:
        """Hands to the system what was written."""
        self._check("flush")
        async with self._turn:
            await self._begin()
            await self._hand_over()

    async def fsync(self) -> None:
        """Hands to the system what was written, and has it brought to the disk (`os.fsync`)."""
        async with self._turn:
            raw = await self._begin()
            await self._hand_over()
            await self._carry_out(raw.sync(), _nothing)

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Sets the position, and returns it."""
        plain = type(offset) is int and type(whence) is int and abs(offset) <= sys.maxsize
        if not (plain and 0 <= whence <= os.SEEK_HOLE and self._raw is not None):
            self._as_builtin("seek", offset, whence)
            offset, whence = operator.index(offset), operator.index(whence)
        async with self._turn:
            raw = await self._begin()
            if not self.seekable():
                raise io.UnsupportedOperation("File or stream is not seekable.")
            await self._hand_over()
            if whence == os.SEEK_CUR:
                offset -= self._available()
            elif whence == os.SEEK_SET and self._available():
                # A step within what was read ahead costs nothing but the look at where that is.
                place = offset - (os.lseek(raw.fileno(), 0, os.SEEK_CUR) - len(self._ahead))
                if 0 <= place <= len(self._ahead):
                    self._at = place
                    return offset
            position = os.lseek(raw.fileno(), offset, whence)
            self._ahead, self._at = b"", 0
            return position

    async def tell(self) -> int:
        """The position."""
        self._check("tell")
        async with self._turn:
            raw = await self._begin()
            return os.lseek(raw.fileno(), 0, os.SEEK_CUR) - self._available() + self._behind_size

    async def truncate(self, size: int | None = None, /) -> int:
        """Cuts the file off at `size`, by default at the position; returns the size."""
        plain = size is None or (type(size) is int and size <= sys.maxsize)
        if not (plain and self._writable and self._raw is not None):
            self._as_builtin("truncate", size)
            size = None if size is None else operator.index(size)
        async with self._turn:
            raw = await self._begin()
            await self._hand_over()
            self._step_back()
            if size is None:
                size = os.lseek(raw.fileno(), 0, os.SEEK_CUR)
            if size < 0:
                raise OSError(22, os.strerror(22))
            await self._carry_out(raw.truncate(size), _nothing)
            return size

    def _close_at_once(self) -> asyncio.Future[int] | None:
        if self._behind_size or not self._is_quiet():
            return None
        raw = self._open_raw()
        self._raw = None
        self._ahead, self._at = b"", 0
        return raw.close()

    async def _close(self) -> None:
        async with self._turn:
            await self._settle()
            raw = self._open_raw()
            try:
                await self._hand_over()
            finally:
                await self._settle()
                self._raw = None
                self._ahead, self._at = b"", 0
                self._behind, self._behind_size = [], 0
                await raw.close()

    def _abandon(self) -> None:
        # As the built-in file does; but what is under way on a loop that is gone cannot be known.
        if self._raw is not None and self._under_way is None:
            rest = memoryview(b"".join(self._behind))
            while rest:
                rest = rest[os.write(self._raw.fileno(), rest) :]
            self._raw.abandon()

    def _open_raw(self) -> RawFile:
        if self._raw is None:
            raise ValueError("I/O operation on closed file.")
        return self._raw

    def _as_builtin(self, call: str, *arguments: Any) -> Any:
        """What a built-in file of this kind, empty and as open as this one, does: above all, refuse."""
        builtin: Any = open
        with builtin(_empty_file(), self._mode, -1 if self._buffer_size else 0) as file:
            if self._raw is None:
                file.close()
            name = call if hasattr(file, call) else STAND_INS[call]
            return getattr(file, name)(*arguments)

    def _check(self, call: str) -> None:
        if self._raw is None:
            self._as_builtin(call)

    def _size(self, call: str, size: int | None) -> int:
        """The `size` for a call that reads, if the built-in file would carry that out."""
        if type(size) is int and -1 <= size <= sys.maxsize and self._readable and self._raw is not None:
            return size
        self._as_builtin(call, size)
        return -1 if size is None else operator.index(size)

    def _check_room(self, call: str, buffer: Any) -> None:
        if not (self._readable and self._raw is not None and _is_bytes_like(buffer, writable=True)):
            self._as_builtin(call, buffer)

    async def _begin(self) -> RawFile:
        """A call's turn has come."""
        await self._settle()
        return self._open_raw()

    async def _begin_reading(self) -> None:
        await self._begin()
        await self._hand_over()

    async def _begin_writing(self) -> None:
        await self._begin()
        self._step_back()

    def _available(self) -> int:
        return len(self._ahead) - self._at

    def _is_quiet(self) -> bool:
        """Whether a call that needs no request need not wait for its turn."""
        return self._under_way is None and not self._turn.locked()

    def _line_end(self, start: int) -> int:
        """How much is ahead up to the first line's end from `start` on; -1 if that is not known yet."""
        end = self._ahead.find(b"\n", self._at + start)
        return -1 if end < 0 else end + 1 - self._at

    def _take(self, size: int) -> bytes:
        """Takes what was read ahead. No wait lies between this and the look at what there is."""
        start = self._at
        if not start and size >= len(self._ahead):
            data, self._ahead = self._ahead, b""
            return data
        data = self._ahead[start : start + size]
        self._at += len(data)
        if self._at == len(self._ahead):
            self._ahead, self._at = b"", 0
        return data

    def _keep_ahead(self, data: bytes, _waited_for: bool) -> None:
        """What was read lies ahead, whether or not its caller still waits: so no byte is lost."""
        self._ahead = self._ahead[self._at :] + data if self._available() else data
        self._at = 0

    async def _fetch(self, size: int) -> bool:
        """Reads once, ahead; whether there was anything."""
        before = self._available()
        raw = self._open_raw()
        await self._carry_out(raw.read(max(size, self._buffer_size)), self._keep_ahead)
        return self._available() > before

    def _append(self, data: bytes) -> None:
        self._ahead, self._at = b"", 0
        self._behind.append(data)
        self._behind_size += len(data)

    def _step_back(self) -> None:
        """Gives up what was read ahead: the system's position becomes the file's."""
        if self._available():
            os.lseek(self.fileno(), -self._available(), os.SEEK_CUR)
        self._ahead, self._at = b"", 0

    async def _hand_over(self) -> None:
        """Writes what is behind. What an error leaves over stays, for the next attempt."""
        while self._behind_size:
            data = self._behind[0] if len(self._behind) == 1 else b"".join(self._behind)
            self._behind = [data]
            await self._carry_out(self._open_raw().write(data), self._keep_behind)

    def _keep_behind(self, written: int, _waited_for: bool) -> None:
        (data,) = self._behind
        self._behind = [data[written:]] if written < len(data) else []
        self._behind_size -= written

    async def _write_unbuffered(self, data: bytes) -> int:
        async with self._turn:
            await self._begin_writing()
            written = 0

            def keep(count: int, _waited_for: bool) -> None:
                nonlocal written
                written = count

            await self._carry_out(self._open_raw().write(data), keep)
            return written


def _nothing(_result: object, _waited_for: bool) -> None:
    """Nothing is to be kept of this request."""


def _empty_file() -> int:
    """A descriptor of a file without a name."""
    if sys.platform == "linux":
        return os.memfd_create("motet")
    from tempfile import TemporaryFile

    with TemporaryFile() as file:
        return os.dup(file.fileno())


def _is_bytes_like(value: Any, *, writable: bool = False) -> bool:
    try:
        view = memoryview(value)
    except TypeError:
        return False
    return view.c_contiguous and not (writable and view.readonly)
