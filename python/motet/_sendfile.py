"""`sendfile` and `sock_sendfile`: what `asyncio.BaseEventLoop` leaves to the loop of a system.

The kernel sends the file by itself (`os.sendfile`) where the transport and the file allow it. Otherwise it is
read in the executor and written.
"""

import asyncio
import errno
import io
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ._asyncio_classes import SocketTransport
from ._sockets import SocketMethods

# Others have a turn between two parts.
_PART = 1024 * 1024
_BLOCK = 64 * 1024

_Send = Callable[[int, int, int], Awaitable[int]]


def _check(file: Any, offset: int, count: int | None) -> None:
    """As `sock_sendfile` checks, in asyncio's words."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


class SendfileMethods(SocketMethods):
    """Sending files."""

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        async def send(source: int, position: int, size: int) -> int:
            sent: int = await self._write(sock, os.sendfile, sock.fileno(), source, position, size)
            self._count_bytes(0, sent)
            return sent

        return await _send_parts(send, file, offset, count)

    async def _sendfile_native(
        self, transp: asyncio.WriteTransport, file: Any, offset: int, count: int | None
    ) -> int:
        if not isinstance(transp, SocketTransport):
            raise asyncio.SendfileNotAvailableError(f"sendfile is not available for {transp!r}")
        _check(file, offset, count)

        async def send(source: int, position: int, size: int) -> int:
            while not isinstance(sent := transp._send_file(source, position, size), int):
                await sent
            return sent

        transp._begin_sendfile()
        was_reading = transp.is_reading()
        transp.pause_reading()
        try:
            return await _send_parts(send, file, offset, count)
        finally:
            transp._end_sendfile()
            if was_reading:
                transp.resume_reading()

    async def _sendfile_fallback(
        self, transp: asyncio.Transport, file: Any, offset: int, count: int | None
    ) -> int:
        _check(file, offset, count)
        if offset:
            file.seek(offset)
        else:
            _set_position(file, 0)
        buffer = memoryview(bytearray(min(count or _BLOCK, _BLOCK)))
        feed = _Feed(self, transp)
        sent = 0
        try:
            while count is None or sent < count:
                room = len(buffer) if count is None else min(len(buffer), count - sent)
                read = await self.run_in_executor(None, file.readinto, buffer[:room])
                if not read:
                    break
                await feed.drain()
                transp.write(buffer[:read])
                sent += read
            return sent
        finally:
            feed.restore()
            _set_position(file, offset + sent)


async def _send_parts(send: _Send, file: Any, offset: int, count: int | None) -> int:
    """Sends a file part by part; returns the number of bytes and leaves the file's position behind them."""
    with _source_of(file) as source:
        sent = 0
        try:
            while count is None or sent < count:
                size = _PART if count is None else min(_PART, count - sent)
                part = await send(source, offset + sent, size)
                if part == 0:
                    break
                sent += part
                if part == _PART:
                    await asyncio.sleep(0)
            return sent
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            if error.errno == errno.ENOTCONN:
                raise ConnectionError(errno.ENOTCONN, "socket is not connected") from error
            if sent:
                raise
            raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
        finally:
            _set_position(file, offset + sent)


@contextmanager
def _source_of(file: Any) -> Iterator[int]:
    """A descriptor of a regular file that stays open, and that file's, whatever the program closes."""
    try:
        source = os.dup(file.fileno())
    except (AttributeError, io.UnsupportedOperation, OSError) as error:
        raise asyncio.SendfileNotAvailableError("not a regular file") from error
    try:
        yield source
    finally:
        os.close(source)


def _set_position(file: Any, position: int) -> None:
    """Moves a file there, if it can be moved: not a pipe, nor one that is closed."""
    with suppress(AttributeError, OSError, ValueError):
        file.seek(position)


class _Feed(asyncio.Protocol):
    """Stands in for a transport's protocol while a file is written, to hear when there is room.

    What the protocol needs to know it is told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol: Any = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._room: asyncio.Future[None] | None = None
        self._is_lost = False
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Waits until the transport may be written to."""
        while not self._transport.is_closing():
            if self._transport.get_write_buffer_size() <= self._transport.get_write_buffer_limits()[1]:
                return
            self._room = self._loop.create_future()
            await self._room
        raise ConnectionError("Connection closed by peer")

    def restore(self) -> None:
        """Gives the transport back to its protocol."""
        if not self._is_lost:
            self._transport.set_protocol(self._protocol)
            if self._was_reading:
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._wake()
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._wake()
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> bool | None:
        raise RuntimeError("Invalid state: reading should be paused")

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
