"""websockets: a server and clients of it on one loop."""

from __future__ import annotations

import asyncio

import pytest
from clean_run import run_clean
from conftest import MakeLoop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from .conftest import LARGE, Transport

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's descriptors")


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "leave":
            return
        if message == "fail":
            connection.transport.abort()
        await connection.send(message)


def test_messages_cancellation_timeout_and_ends(make_loop: MakeLoop, transport: Transport) -> None:
    async def main() -> None:
        async with serve(
            echo, "127.0.0.1", 0, ssl=transport.server, max_size=2 * len(LARGE), compression=None
        ) as server:
            url = transport.url("ws", next(iter(server.sockets)).getsockname()[1])
            await asyncio.gather(*(converse(url, number) for number in range(40)))
            async with connect(url, ssl=transport.client, max_size=2 * len(LARGE)) as connection:
                await connection.send(LARGE)
                assert await connection.recv() == LARGE
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.02)
                task = asyncio.ensure_future(connection.recv())
                await asyncio.sleep(0.02)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # Neither has lost what comes next.
                await connection.send("next")
                assert await connection.recv() == "next"
                await (await connection.ping())
                await connection.send("leave")
                with pytest.raises(ConnectionClosedOK):
                    await connection.recv()
            async with connect(url, ssl=transport.client) as connection:
                await connection.send("fail")
                with pytest.raises(ConnectionClosedError):
                    await connection.recv()

    async def converse(url: str, number: int) -> None:
        async with connect(url, ssl=transport.client) as connection:
            for turn in range(10):
                message = f"{number}.{turn} " * (1 + number * turn)
                await connection.send(message)
                assert await connection.recv() == message

    run_clean(make_loop, main)
