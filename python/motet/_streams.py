"""Native streams: asyncio's readers and writers with their work done in Rust.

The classes put the Rust part before asyncio's class of the same name: `isinstance` holds, what is called for
each read or write is compiled, and what is left (how they look, TLS, warnings) is asyncio's own.
"""

import asyncio
import contextlib
import os
import sys
import traceback
import warnings
from asyncio import coroutines, events, format_helpers, streams
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from . import _motet

_DEFAULT_LIMIT = 2**16

# For writers over another protocol than native streams have, such as a subprocess's.
stock_drain = streams.StreamWriter.drain
stock_wait_closed = streams.StreamWriter.wait_closed

_ClientConnected: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class StreamReader(_motet.ReaderCore, asyncio.StreamReader):
    """The reading side of a stream; as `asyncio.StreamReader`.

    `readuntil()` takes a tuple of separators on every Python. A read that is cancelled has consumed nothing.
    """

    _source_traceback: traceback.StackSummary | None = None

    def __init__(self, limit: int = _DEFAULT_LIMIT, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        loop = _current_loop() if loop is None else loop
        self._begin(limit, loop)
        if loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe(1))


class StreamWriter(_motet.WriterCore, asyncio.StreamWriter):
    """The writing side of a stream; as `asyncio.StreamWriter`."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: asyncio.StreamReader | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if reader is not None and not isinstance(reader, asyncio.StreamReader):
            raise AssertionError(f"reader must be an asyncio.StreamReader or None, not {reader!r}")
        self._begin(transport, protocol, reader, loop)

    async def start_tls(
        self,
        sslcontext: Any,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        """Goes on over TLS; as asyncio's method of this name."""
        protocol = self._protocol
        await self.drain()
        transport = await self._loop.start_tls(
            self.transport,
            protocol,
            sslcontext,
            server_side=protocol._client_connected_cb is not None,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._transport = transport
        protocol._replace_transport(transport)

    # The module is kept for the interpreter's exit.
    def __del__(self, warnings: Any = warnings) -> None:
        """Closes a connection that nobody has closed, with a warning."""
        transport = self._transport
        if transport is None:
            return
        try:
            closing = transport.is_closing()
        except RuntimeError:
            # Found by a collection on another thread than the loop's.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_close_forgotten, transport)
            return
        if not closing:
            if self._loop.is_closed():
                warnings.warn("loop is closed", ResourceWarning)
            else:
                self.close()
                warnings.warn(f"unclosed {self!r}", ResourceWarning)


def _close_forgotten(transport: asyncio.WriteTransport) -> None:
    if not transport.is_closing():
        transport.close()
        warnings.warn(f"unclosed {transport!r}", ResourceWarning, stacklevel=1)


class StreamReaderProtocol(_motet.ProtocolCore, asyncio.StreamReaderProtocol):
    """The protocol between a transport and a stream; as `asyncio.StreamReaderProtocol`."""

    def __init__(
        self,
        stream_reader: asyncio.StreamReader | None,
        client_connected_cb: _ClientConnected | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        loop = _current_loop() if loop is None else loop
        self._begin(stream_reader, client_connected_cb, loop)


async def open_connection(
    host: str | None = None, port: int | str | None = None, *, limit: int = _DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connects to a TCP server; as `asyncio.open_connection`, with native streams."""
    loop = events.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(
        lambda: protocol,
        host,  # type: ignore[arg-type]
        port,  # type: ignore[arg-type]
        **kwds,
    )
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: _ClientConnected,
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Starts a TCP server; as `asyncio.start_server`, with native streams."""
    loop = events.get_running_loop()
    factory = partial(_server_protocol, client_connected_cb, limit, loop)
    return await loop.create_server(factory, host, port, **kwds)  # type: ignore[arg-type]


async def open_unix_connection(
    path: str | bytes | os.PathLike[str] | None = None, *, limit: int = _DEFAULT_LIMIT, **kwds: Any
) -> tuple[StreamReader, StreamWriter]:
    """Connects to a Unix socket; as `asyncio.open_unix_connection`, with native streams."""
    loop = events.get_running_loop()
    reader = StreamReader(limit=limit, loop=loop)
    protocol = StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)  # type: ignore[arg-type]
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_unix_server(
    client_connected_cb: _ClientConnected,
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    limit: int = _DEFAULT_LIMIT,
    **kwds: Any,
) -> asyncio.Server:
    """Starts a server on a Unix socket; as `asyncio.start_unix_server`, with native streams."""
    loop = events.get_running_loop()
    factory = partial(_server_protocol, client_connected_cb, limit, loop)
    return await loop.create_unix_server(factory, path, **kwds)  # type: ignore[arg-type]


def _server_protocol(
    client_connected_cb: _ClientConnected, limit: int, loop: asyncio.AbstractEventLoop
) -> StreamReaderProtocol:
    return StreamReaderProtocol(StreamReader(limit=limit, loop=loop), client_connected_cb, loop=loop)


def _current_loop() -> asyncio.AbstractEventLoop:
    return events.get_event_loop()


def serve(
    protocol: StreamReaderProtocol,
    transport: asyncio.Transport,
    reader: asyncio.StreamReader,
    client_connected_cb: _ClientConnected,
    loop: asyncio.AbstractEventLoop,
) -> "asyncio.Task[None] | None":
    """Tells a server's callback of a connection; the task, if it is a coroutine function's."""
    result = client_connected_cb(reader, StreamWriter(transport, protocol, reader, loop))
    if not coroutines.iscoroutine(result):
        return None
    task = loop.create_task(result)
    task.add_done_callback(partial(_served, loop, transport))
    return task


def _served(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, task: "asyncio.Task[None]"
) -> None:
    if task.cancelled():
        transport.close()
        return
    exception = task.exception()
    if exception is not None:
        loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": exception,
                "transport": transport,
            }
        )
        transport.close()


class _NoLoop:
    """As much of a loop as a future needs that is never waited for."""

    def get_debug(self) -> bool:
        return False


def finished_future() -> "asyncio.Future[None]":
    """A future that has finished with None and keeps no loop alive."""
    future: asyncio.Future[None] = asyncio.Future(loop=_NoLoop())  # type: ignore[arg-type]
    future.set_result(None)
    return future
