"""What open files have in common: their requests take turns, and a cancelled call loses nothing."""

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, AnyStr, Generic, Self

Future = asyncio.Future[Any]


class AsyncFile(ABC, Generic[AnyStr]):
    """An open file whose methods do not block the event loop. Made by `motet.open()` only.

    Its calls are carried out one after the other, in the order in which they were made, also when several
    tasks make them. A call that is cancelled returns at once. What it had under way goes on by itself, and
    the next call waits for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn = asyncio.Lock()
        self._under_way: Future | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def name(self) -> Any:
        """What the file was opened by: a path or a descriptor."""

    @property
    @abstractmethod
    def mode(self) -> str:
        """The mode, as the built-in file gives it."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the file is closed."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor's number."""

    @abstractmethod
    def isatty(self) -> bool:
        """Whether it is a terminal."""

    @abstractmethod
    def readable(self) -> bool:
        """Whether it can be read."""

    @abstractmethod
    def writable(self) -> bool:
        """Whether it can be written."""

    @abstractmethod
    def seekable(self) -> bool:
        """Whether it has a position that can be set."""

    @abstractmethod
    async def read(self, size: int | None = -1, /) -> AnyStr:
        """Reads `size` bytes or characters, fewer only at the end; all that is left by default."""

    @abstractmethod
    async def readline(self, size: int | None = -1, /) -> AnyStr:
        """Reads a line with its end, at most `size` bytes or characters; nothing at the file's end."""

    @abstractmethod
    async def readlines(self, hint: int | None = -1, /) -> list[AnyStr]:
        """Reads the lines that are left; with a `hint`, no more once they are longer together."""

    @abstractmethod
    async def seek(self, offset: int, whence: int = 0, /) -> int:
        """Sets the position, and returns it."""

    @abstractmethod
    async def tell(self) -> int:
        """The position."""

    @abstractmethod
    async def truncate(self, size: int | None = None, /) -> int:
        """Cuts the file off at `size`, by default at the position; returns the size."""

    @abstractmethod
    async def flush(self) -> None:
        """Hands to the system what was written."""

    @abstractmethod
    async def fsync(self) -> None:
        """Hands to the system what was written, and has it brought to the disk (`os.fsync`)."""

    @abstractmethod
    async def write(self, data: Any, /) -> int:
        """Writes, and returns how much."""

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Writes each of `lines`; adds no line ends."""
        self._check_open()
        for line in lines:
            await self.write(line)

    def _close_at_once(self) -> Future | None:
        """Closes by one request, if that is all there is to do."""
        return None

    @abstractmethod
    async def _close(self) -> None:
        """Closes, in its turn."""

    @abstractmethod
    def _abandon(self) -> None:
        """The file goes without having been closed."""

    async def close(self) -> None:
        """Writes what is left to write, and closes. Goes on by itself when the caller is cancelled."""
        if self._closing is None or (self._closing.cancelled() and not self.closed):
            if self.closed:
                return
            request = self._close_at_once()
            if request is not None:
                await self._carry_out(request, lambda *_: None)
                return
            self._closing = self._loop.create_task(self._close())
        elif self._closing.done():
            return
        await asyncio.shield(self._closing)

    async def aclose(self) -> None:
        """As `close()`."""
        await self.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        self._check_open()
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __repr__(self) -> str:
        return f"<motet.{type(self).__name__} name={self.name!r} mode={self.mode!r}>"

    def __del__(self) -> None:
        # It may have failed before there was a file.
        if hasattr(self, "_closing") and not self.closed:
            warnings.warn(f"unclosed file {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._abandon()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")

    async def _settle(self) -> None:
        """Waits for what a cancelled call has left under way."""
        while self._under_way is not None:
            await self._wait(self._under_way)

    async def _carry_out(self, request: Future, keep: Callable[[Any, bool], None]) -> None:
        """Waits for a request, in the turn of its call; its error is raised here.

        What it brings goes to `keep`, with whether somebody still waits for it: a request that has begun
        cannot be taken back, so what it did must be known even when its caller is gone.
        """
        self._under_way = request
        waiter = self._loop.create_future()

        def ended(request: Future) -> None:
            self._under_way = None
            if waiter.done():
                self._keep_for_nobody(request, keep)
            elif request.cancelled():
                waiter.cancel()
            else:
                waiter.set_result(None)

        request.add_done_callback(ended)
        try:
            await waiter
        except asyncio.CancelledError:
            # It may have ended before the cancellation was heard.
            if waiter.done() and not waiter.cancelled():
                self._keep_for_nobody(request, keep)
            raise
        keep(request.result(), True)

    def _keep_for_nobody(self, request: Future, keep: Callable[[Any, bool], None]) -> None:
        if request.cancelled():
            return
        if (error := request.exception()) is None:
            keep(request.result(), False)
        else:
            message = f"a request of {self!r} failed after its call was cancelled"
            self._loop.call_exception_handler({"message": message, "exception": error})

    async def _wait(self, request: Future) -> None:
        waiter = self._loop.create_future()

        def ended(_: Future) -> None:
            if not waiter.done():
                waiter.set_result(None)

        request.add_done_callback(ended)
        try:
            await waiter
        finally:
            request.remove_done_callback(ended)
