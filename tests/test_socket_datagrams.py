"""The `sock_…` methods on datagram sockets: whole datagrams, in order, however short."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeLoop

Body = Callable[[asyncio.AbstractEventLoop, socket.socket, socket.socket], Awaitable[Any]]


def with_datagrams(make_loop: MakeLoop, body: Body) -> Any:
    """Runs `body` with a loop and two bound UDP sockets."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as here,
        socket.socket(type=socket.SOCK_DGRAM) as there,
        closing(make_loop()) as loop,
    ):
        for sock in (here, there):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        try:
            return loop.run_until_complete(asyncio.wait_for(body(loop, here, there), 30))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())


def test_datagrams_come_with_their_sender(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        waiting = loop.create_task(loop.sock_recvfrom(here, 100))
        await asyncio.sleep(0)
        assert await loop.sock_sendto(there, b"question", here.getsockname()) == 8
        assert await waiting == (b"question", there.getsockname())
        buffer = bytearray(100)
        await loop.sock_sendto(there, b"another", here.getsockname())
        assert await loop.sock_recvfrom_into(here, buffer) == (7, there.getsockname())
        assert buffer[:7] == b"another"
        await loop.sock_sendto(there, b"truncated", here.getsockname())
        assert await loop.sock_recvfrom_into(here, buffer, 5) == (5, there.getsockname())
        assert buffer[:7] == b"truncer"

    with_datagrams(make_loop, body)


@pytest.mark.parametrize("method", ["sock_recv", "sock_recvfrom"])
def test_a_short_datagram_does_not_hide_the_next(make_loop: MakeLoop, method: str) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> list[bytes]:
        waiting = loop.create_task(getattr(loop, method)(here, 65536))
        await asyncio.sleep(0.01)
        for number in range(20):
            there.sendto(b"%d" % number, here.getsockname())
        received = [await waiting]
        received += [await getattr(loop, method)(here, 65536) for _ in range(19)]
        return [one[0] if method == "sock_recvfrom" else one for one in received]

    assert with_datagrams(make_loop, body) == [b"%d" % number for number in range(20)]


def test_an_empty_datagram_is_no_end(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        waiting = loop.create_task(loop.sock_recv(here, 100))
        await asyncio.sleep(0.01)
        there.sendto(b"", here.getsockname())
        there.sendto(b"data", here.getsockname())
        assert await waiting == b""
        assert await loop.sock_recv(here, 100) == b"data"

    with_datagrams(make_loop, body)


def test_a_datagram_that_is_too_long(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        with pytest.raises(OSError, match="Message too long"):
            await loop.sock_sendto(there, bytes(100_000), here.getsockname())

    with_datagrams(make_loop, body)


def test_a_refused_datagram_is_told(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as unused:
            unused.bind(("127.0.0.1", 0))
            address = unused.getsockname()
        await loop.sock_connect(there, address)
        await loop.sock_sendall(there, b"nobody")
        with pytest.raises(ConnectionRefusedError) as raised:
            await loop.sock_recv(there, 100)
        assert raised.value.errno == 111

    with_datagrams(make_loop, body)
