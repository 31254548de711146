"""aiohttp: a server and a client of it on one loop."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from clean_run import run_clean
from conftest import MakeLoop

from .conftest import LARGE, Transport

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's descriptors")


class Site:
    """The server's pages."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def chunks(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(100):
            await response.write(b"%d\n" % number * 1000)
        await response.write_eof()
        return response

    async def stuck(self, request: web.Request) -> web.Response:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=2 * len(LARGE))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket


@asynccontextmanager
async def serving(transport: Transport) -> AsyncIterator[tuple[Site, int]]:
    """A site, and the port that it is served at."""
    site = Site()
    application = web.Application(client_max_size=2 * len(LARGE))
    application.router.add_post("/echo", site.echo)
    application.router.add_get("/chunks", site.chunks)
    application.router.add_get("/stuck", site.stuck)
    application.router.add_get("/talk", site.talk)
    runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=transport.server).start()
        yield site, runner.addresses[0][1]
    finally:
        await runner.cleanup()


def test_requests_cancellation_timeout_and_web_sockets(make_loop: MakeLoop, transport: Transport) -> None:
    async def main() -> None:
        async with serving(transport) as (site, port):
            connector = aiohttp.TCPConnector(ssl=transport.client or True)
            async with aiohttp.ClientSession(transport.url("http", port), connector=connector) as session:
                await ask(session)
                await give_up(session, site)
                await talk(session)

    async def ask(session: aiohttp.ClientSession) -> None:
        async def once(body: bytes) -> bytes:
            async with session.post("/echo", data=io.BytesIO(body)) as response:
                assert response.status == 200
                return await response.read()

        bodies = [b"%d" % number * number for number in range(60)] + [LARGE]
        assert await asyncio.gather(*map(once, bodies)) == bodies
        async with session.get("/chunks") as response:
            assert [line async for line in response.content] == [
                b"%d\n" % number for number in range(100) for _ in range(1000)
            ]

    async def give_up(session: aiohttp.ClientSession, site: Site) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await session.get("/stuck", timeout=aiohttp.ClientTimeout(total=0.05))
        await site.cancelled.wait()
        site.cancelled.clear()
        task = asyncio.ensure_future(session.get("/stuck"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await site.cancelled.wait()

    async def talk(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/talk", max_msg_size=2 * len(LARGE)) as socket:
            for message in (b"first", LARGE, b"last"):
                await socket.send_bytes(message)
                assert await socket.receive_bytes() == message

    run_clean(make_loop, main)
