"""What has ended is freed by reference counts alone: connections, protocols, tasks, servers, handles."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import motet
import pytest

References = list[weakref.ref[Any]]
Ending = Callable[[References], Awaitable[None]]

pytestmark = pytest.mark.thread_unsafe(reason="switches the collector off")


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """The collector is off while a test runs."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Noting(asyncio.Protocol):
    """Notes itself and its transport, and raises where it is told to."""

    def __init__(self, references: References, raises: str = "") -> None:
        self.references = references
        self.raises = raises
        self.lost = asyncio.Event()
        references.append(weakref.ref(self))

    def fail_in(self, method: str) -> None:
        if self.raises == method:
            raise ZeroDivisionError(method)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.references.append(weakref.ref(transport))
        self.fail_in("connection_made")

    def data_received(self, data: bytes) -> None:
        self.fail_in("data_received")

    def eof_received(self) -> None:
        self.fail_in("eof_received")

    def connection_lost(self, error: Exception | None) -> None:
        # As protocols do, if they are not careless.
        del self.transport
        self.lost.set()
        self.fail_in("connection_lost")


async def converse(references: References, raises: str = "") -> None:
    """Both sides of a connection; the accepted side may raise."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    accepted: list[Noting] = []

    def factory() -> Noting:
        accepted.append(Noting(references, raises))
        return accepted[0]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    references.append(weakref.ref(server))
    transport, protocol = await loop.create_connection(
        lambda: Noting(references), *server.sockets[0].getsockname()
    )
    transport.write(b"data")
    await asyncio.sleep(0.01)
    transport.close()
    await protocol.lost.wait()
    await accepted[0].lost.wait()
    server.close()
    await server.wait_closed()


async def a_connection(references: References) -> None:
    await converse(references)


async def streams(references: References) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        references.extend(map(weakref.ref, (reader, writer, writer.transport, asyncio.current_task())))
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        references.extend(map(weakref.ref, (server, reader, writer, writer.transport)))
        writer.write(b"line\n")
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()
    await server.wait_closed()


async def a_failed_connection(references: References) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = unused.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.get_running_loop().create_connection(lambda: Noting(references), *address)
    await a_cancelled_task(references)


async def a_cancelled_connect(references: References) -> None:
    loop = asyncio.get_running_loop()
    # Its queue is full with the first connection, and the next connect waits.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
    ):
        tasks = []
        for _ in range(4):
            connecting = loop.create_connection(lambda: Noting(references), *full.getsockname())
            tasks.append(loop.create_task(connecting))
        await asyncio.sleep(0.02)
        assert not tasks[-1].done()
        references.extend(map(weakref.ref, tasks))
        for task in tasks:
            if task.done():
                task.result()[0].close()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.sleep(0.02)


async def a_cancelled_task(references: References) -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    references.append(weakref.ref(task))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def handles(references: References) -> None:
    loop = asyncio.get_running_loop()
    ran, cancelled = loop.call_soon(str), loop.call_later(3600, str)
    cancelled.cancel()
    await asyncio.sleep(0)
    references.extend([weakref.ref(ran), weakref.ref(cancelled)])


async def an_aborted_connection(references: References) -> None:
    here, there = socket.socketpair()
    with there:
        transport, protocol = await asyncio.get_running_loop().create_connection(
            lambda: Noting(references), sock=here
        )
        transport.write(bytes(10_000_000))
        transport.abort()
        await protocol.lost.wait()


def raising(method: str) -> Ending:
    """A connection whose accepted side raises in a method."""

    async def converse_with_failure(references: References) -> None:
        await converse(references, method)

    converse_with_failure.__name__ = f"a_failure_in_{method}"
    return converse_with_failure


ENDINGS = [
    a_connection,
    streams,
    a_failed_connection,
    a_cancelled_connect,
    a_cancelled_task,
    an_aborted_connection,
    handles,
    *map(raising, ["connection_made", "data_received", "eof_received", "connection_lost"]),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_nothing_is_left_to_the_collector(ending: Ending) -> None:
    references: References = []
    with closing(motet.new_event_loop()) as loop:
        loop.run_until_complete(ending(references))
        # What follows the end, such as the removal of a finished task from the set of all.
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.run_until_complete(loop.shutdown_default_executor())
        assert references
        assert [reference() for reference in references if reference() is not None] == []


def test_a_closed_loop_is_freed_and_keeps_no_descriptor() -> None:
    motet.run(asyncio.sleep(0))
    before = os.listdir("/proc/self/fd")
    loop = motet.new_event_loop()
    loop.run_until_complete(a_connection([]))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert os.listdir("/proc/self/fd") == before
    reference = weakref.ref(loop)
    del loop
    assert reference() is None
