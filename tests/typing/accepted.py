"""Programs that type checkers must accept, with the types that they must see. Checked, never run."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Any, assert_type

import motet


class Echo(asyncio.Protocol):
    """A protocol of the program's own, whose type must survive."""


async def number() -> int:
    return 1


def add(left: int, right: str) -> None:
    print(left, right)


def half(left: int, digits: int = 0) -> float:
    return round(left / 2, digits)


async def name(left: int) -> str:
    return str(left)


def entry_points() -> None:
    assert_type(motet.run(number()), int)
    assert_type(motet.run(number(), debug=True), int)
    for factory in (motet.new_event_loop, motet.EventLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert_type(runner.run(number()), int)
    assert_type(motet.__version__, str)


def scheduling(loop: motet.EventLoop) -> None:
    assert_type(loop.call_soon(add, 1, "a"), motet.Handle)
    assert_type(loop.call_soon_threadsafe(add, 1, "a"), motet.Handle)
    timer = loop.call_later(0.5, add, 1, "a")
    assert_type(timer, motet.TimerHandle)
    assert_type(timer.when(), float)
    assert_type(timer < loop.call_at(loop.time(), print), bool)
    assert_type(loop.create_task(number(), name="number"), asyncio.Task[int])
    assert_type(loop.create_future(), asyncio.Future[Any])
    assert_type(loop.run_until_complete(number()), int)
    loop.add_reader(0, add, 1, "a")
    assert_type(loop.remove_reader(socket.socket()), bool)


def observing(loop: motet.EventLoop) -> None:
    loop.blocked_threshold = 0.05
    assert_type(loop.blocked_threshold, float)
    assert_type(loop.statistics(), dict[str, Any])


async def connections(loop: motet.EventLoop, sock: socket.socket) -> None:
    transport, protocol = await loop.create_connection(Echo, "localhost", 80)
    assert_type(protocol, Echo)
    assert_type(transport, asyncio.Transport)
    _, protocol = await loop.create_unix_connection(Echo, "path")
    assert_type(protocol, Echo)
    server = await loop.create_server(Echo, "localhost", 0, keep_alive=True)
    assert_type(server, motet.Server)
    server.close_clients()
    assert_type(await loop.sock_recv(sock, 10), bytes)
    assert_type(await loop.sock_recv_into(sock, bytearray(10)), int)


def is_an_asyncio_loop(loop: motet.EventLoop) -> asyncio.AbstractEventLoop:
    return loop


def is_an_asyncio_server(server: motet.Server) -> asyncio.Server:
    return server


def is_an_asyncio_transport(transport: motet.SocketTransport) -> asyncio.Transport:
    return transport


def mappings() -> None:
    assert_type(motet.map(half, [1, 2]), Generator[float, None, None])
    assert_type(motet.map(half, [1, 2], range(2), workers=2, ordered=False), Generator[float, None, None])
    assert_type(motet.map(partial(half, digits=1), [1, 2]), Generator[float, None, None])
    assert_type(motet.map(name, [1, 2]), Generator[str, None, None])
    assert_type(motet.amap(half, [1, 2]), AsyncGenerator[float, None])
    assert_type(motet.amap(name, motet.amap(len, ["a"])), AsyncGenerator[str, None])
