"""A hello-world web server on any event loop, by aiohttp or uvicorn; prints its port, serves until killed."""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from harness import loops, rows

BACKLOG = 4096


async def serve_aiohttp(listener: socket.socket) -> None:
    """Serve with aiohttp's own server."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=rows.HTTP_BODY)

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.SockSite(runner, listener, backlog=BACKLOG)
    _tell_port(listener)
    await site.start()
    await asyncio.get_running_loop().create_future()


async def serve_uvicorn(listener: socket.socket) -> None:
    """Serve an ASGI application with uvicorn and httptools."""
    import uvicorn

    body = rows.HTTP_BODY.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]

    async def hello(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        hello,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=BACKLOG,
    )
    config.load()
    _tell_port(listener)
    await uvicorn.Server(config).serve(sockets=[listener])


def _tell_port(listener: socket.socket) -> None:
    """Clients may come: all that a server imports is there, and until it accepts them they wait a moment."""
    print(listener.getsockname()[1], flush=True)


STYLES: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    rows.AIOHTTP: serve_aiohttp,
    rows.UVICORN: serve_uvicorn,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=loops.LOOPS, required=True)
    parser.add_argument("--style", choices=tuple(STYLES), required=True)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--cpu", type=int, help="run on this processor only")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    listening = socket.create_server(("127.0.0.1", arguments.port), backlog=BACKLOG)
    listening.setblocking(False)
    try:
        loops.new_event_loop(arguments.loop).run_until_complete(STYLES[arguments.style](listening))
    except (ImportError, NotImplementedError) as error:
        print(f"{error}" or f"{arguments.loop} does not implement what it needs", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
