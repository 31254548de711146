"""An ASGI application for a server in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def read_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def answer(send: Send, *pieces: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def talk(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Names its loop, echoes, sends in pieces, never answers, fails, or talks; by the path."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        print("shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await talk(receive, send)
    elif scope["path"] == "/loop":
        await answer(send, type(asyncio.get_running_loop()).__module__.partition(".")[0].encode())
    elif scope["path"] == "/echo":
        await answer(send, await read_body(receive))
    elif scope["path"] == "/pieces":
        await answer(send, *(b"%d\n" % number * 1000 for number in range(100)))
    elif scope["path"] == "/stuck":
        while (await receive())["type"] != "http.disconnect":
            pass
        print("given up", flush=True)
    else:
        raise RuntimeError("there is nothing at this path")
