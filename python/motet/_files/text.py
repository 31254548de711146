"""Text files: the standard library's, called in threads.

Newlines, encodings and positions of text are its business. What is done here is to go to a thread seldom:
lines are read in batches, and the file goes back to where its reader believes it is before anything else.
"""

import asyncio
import io
import operator
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .turns import AsyncFile

T = TypeVar("T")

# Characters of lines that are read in one go.
BATCH = 64 * 1024


class AsyncTextFile(AsyncFile[str]):
    """An open text file. Made by `motet.open()` only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, file: io.TextIOWrapper) -> None:
        self._file = file
        # Lines read and not yet asked for, and how to get back to where these begin: a position, and how many
        # lines from there have been asked for since.
        self._lines: deque[str] = deque()
        self._start: int | None = None
        self._asked = 0
        self._in_batches = True
        super().__init__(loop)

    @property
    def name(self) -> Any:
        """What the file was opened by: a path or a descriptor."""
        return self._file.name

    @property
    def mode(self) -> str:
        """The mode, as it was given."""
        return str(self._file.mode)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    @property
    def encoding(self) -> str:
        """The encoding."""
        return self._file.encoding

    @property
    def errors(self) -> str | None:
        """How errors of the encoding are treated."""
        return self._file.errors

    @property
    def newlines(self) -> Any:
        """The kinds of line ends read so far."""
        return self._file.newlines

    @property
    def line_buffering(self) -> bool:
        """Whether each line is handed to the system."""
        return self._file.line_buffering

    def fileno(self) -> int:
        """The descriptor's number."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def readable(self) -> bool:
        """Whether it can be read."""
        return self._file.readable()

    def writable(self) -> bool:
        """Whether it can be written."""
        return self._file.writable()

    def seekable(self) -> bool:
        """Whether it has a position that can be set."""
        return self._file.seekable()

    async def read(self, size: int | None = -1, /) -> str:
        """Reads `size` characters, fewer only at the end; all that is left by default."""
        return await self._call(lambda: self._file.read(size), reads=True)

    async def readline(self, size: int | None = -1, /) -> str:
        """Reads a line with its end, at most `size` characters; nothing at the file's end."""
        if size is not None and size != -1:
            return await self._call(lambda: self._file.readline(size), reads=True)
        if not self._lines or self._turn.locked() or self._under_way:
            async with self._turn:
                await self._settle()
                self._check_open()
                if not self._lines:
                    await self._carry_out(self._in_thread(self._read_batch), self._keep_lines)
        if not self._lines:
            return ""
        self._asked += 1
        return self._lines.popleft()

    async def readlines(self, hint: int | None = -1, /) -> list[str]:
        """Reads the lines that are left; with a `hint`, no more once they are longer together."""
        # The built-in's look at the argument.
        most = -1 if hint is None else hint
        io.StringIO().readlines(most)
        return await self._call(lambda: self._read_lines(operator.index(most)), reads=True)

    async def write(self, text: str, /) -> int:
        """Writes, and returns how many characters. They may lie in a buffer until `flush()` or `close()`."""
        return await self._call(lambda: self._file.write(text))

    async def writelines(self, lines: Iterable[str], /) -> None:
        """Writes each of `lines`; adds no line ends."""
        self._check_open()
        text = list(lines)
        await self._call(lambda: self._file.writelines(text))

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Sets the position to one that `tell()` gave, the beginning or the end, and returns it."""
        return await self._call(lambda: self._file.seek(offset, whence))

    async def tell(self) -> int:
        """The position, a number with a meaning for `seek()` alone."""
        return await self._call(self._file.tell)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cuts the file off at `size` bytes, by default at the position; returns the size."""
        return await self._call(lambda: self._file.truncate(size))

    async def flush(self) -> None:
        """Hands to the system what was written."""
        await self._call(self._file.flush)

    async def fsync(self) -> None:
        """Hands to the system what was written, and has it brought to the disk (`os.fsync`)."""

        def sync() -> None:
            self._file.flush()
            os.fsync(self._file.fileno())

        await self._call(sync)

    async def _close(self) -> None:
        async with self._turn:
            await self._settle()
            await self._carry_out(self._loop.run_in_executor(None, self._file.close), lambda *_: None)

    def _abandon(self) -> None:
        self._file.close()

    def _in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        return self._loop.run_in_executor(None, function)

    async def _call(self, function: Callable[[], T], *, reads: bool = False) -> T:
        """Calls a method of the file in a thread, with the file where its reader believes it is."""
        result: list[T] = []

        def call() -> tuple[int | None, T]:
            self._go_back()
            start = self._position() if reads else None
            return start, function()

        def keep(ended: tuple[int | None, T], waited_for: bool) -> None:
            start, value = ended
            if waited_for:
                result.append(value)
            elif start is not None:
                # Nobody has got what was read.
                self._start, self._asked = start, 0

        async with self._turn:
            await self._settle()
            if self.closed:
                # It refuses, in its words.
                return function()
            await self._carry_out(self._in_thread(call), keep)
        return result[0]

    def _go_back(self) -> None:
        """In a thread: unreads the lines that nobody has asked for."""
        if self._start is None:
            return
        if self._lines:
            # A program that does other things between two lines gets them one by one from now on.
            self._in_batches = False
        self._lines.clear()
        start, self._start = self._start, None
        self._file.seek(start)
        for _ in range(self._asked):
            self._file.readline()

    def _position(self) -> int | None:
        return self._file.tell() if self._file.seekable() else None

    def _read_lines(self, hint: int) -> list[str]:
        """In a thread: the file's `readlines`, which would make its position unknown."""
        lines: list[str] = []
        size = 0
        while (hint <= 0 or size <= hint) and (line := self._file.readline()):
            lines.append(line)
            size += len(line)
        return lines

    def _read_batch(self) -> tuple[int | None, list[str]]:
        """In a thread: reads lines, only one where there is no going back."""
        self._go_back()
        start = self._position()
        if not self._in_batches or start is None:
            line = self._file.readline()
            return start, [line] if line else []
        return start, self._read_lines(BATCH)

    def _keep_lines(self, batch: tuple[int | None, list[str]], _waited_for: bool) -> None:
        self._start, lines = batch
        self._lines.extend(lines)
        self._asked = 0
