"""What the tests of streams share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import motet

LIMIT = 60


def run(main: Awaitable[Any]) -> Any:
    """Runs on motet's loop."""

    async def within() -> Any:
        return await asyncio.wait_for(main, LIMIT)

    with asyncio.Runner(loop_factory=motet.new_event_loop) as runner:
        return runner.run(within())


@contextlib.asynccontextmanager
async def connected(
    library: Any, serve: Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's streams, and a server for them."""
    server = await library.start_server(serve, "127.0.0.1", 0, **options)
    async with server:
        reader, writer = await library.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()
