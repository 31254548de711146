"""`add_reader` and `add_writer`: level-triggered callbacks, their replacement and removal, reused numbers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import motet
import pytest
from conftest import MakeLoop

Pair = tuple[socket.socket, socket.socket]

pytestmark = pytest.mark.thread_unsafe(reason="closes descriptors and reuses their numbers")


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there:
        yield here, there


@pytest.fixture
def loop(make_loop: MakeLoop) -> Iterator[asyncio.AbstractEventLoop]:
    with closing(make_loop()) as loop:
        yield loop


def run_for(loop: asyncio.AbstractEventLoop, seconds: float = 0.01) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


def test_a_reader_is_called_as_long_as_there_is_something(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    here, there = pair
    received: list[bytes] = []
    loop.add_reader(here, lambda: received.append(here.recv(1)))
    there.send(b"abc")
    run_for(loop)
    assert received == [b"a", b"b", b"c"]
    there.send(b"d")
    run_for(loop)
    assert received == [b"a", b"b", b"c", b"d"]
    assert loop.remove_reader(here) is True


def test_a_writer_is_called_as_long_as_there_is_room(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, _ = pair
    called: list[str] = []

    def write(argument: str) -> None:
        called.append(argument)
        if len(called) == 5:
            loop.remove_writer(here)

    loop.add_writer(here.fileno(), write, "argument")
    run_for(loop)
    assert called == ["argument"] * 5
    run_for(loop)
    assert len(called) == 5


def test_one_is_called_a_round_at_most(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, _ = pair
    calls = 0

    def write() -> None:
        nonlocal calls
        calls += 1

    loop.add_writer(here, write)
    for _ in range(10):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.remove_writer(here)
    assert 5 <= calls <= 10


def test_the_latest_callback_replaces_the_earlier(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, there = pair
    called: list[str] = []

    def read(name: str) -> None:
        here.recv(10)
        called.append(name)

    loop.add_reader(here, read, "first")
    there.send(b"x")
    loop.add_reader(here, read, "second")
    run_for(loop)
    assert called == ["second"]
    loop.remove_reader(here)


def test_readers_and_writers_of_one_descriptor_are_independent(
    loop: asyncio.AbstractEventLoop, pair: Pair
) -> None:
    here, there = pair
    called: list[str] = []

    def read() -> None:
        called.append(here.recv(10).decode())

    loop.add_reader(here, read)

    def write() -> None:
        called.append("writer")
        loop.remove_writer(here)

    loop.add_writer(here, write)
    run_for(loop)
    assert called == ["writer"]
    there.send(b"reader")
    run_for(loop)
    assert called == ["writer", "reader"]
    assert loop.remove_writer(here) is False
    assert loop.remove_reader(here) is True
    assert loop.remove_reader(here) is False


def test_removal_inside_the_callback_and_by_a_neighbour(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, there = pair
    called: list[str] = []

    def first_come(name: str) -> None:
        called.append(name)
        assert loop.remove_reader(here)
        assert loop.remove_reader(there)

    here.send(b"x")
    there.send(b"x")
    loop.add_reader(here, first_come, "called")
    loop.add_reader(there, first_come, "called")
    run_for(loop)
    assert called == ["called"]


def test_the_end_of_a_stream_is_readable(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, there = pair
    received: list[bytes] = []

    def read() -> None:
        received.append(here.recv(10))
        if not received[-1]:
            loop.remove_reader(here)

    loop.add_reader(here, read)
    there.send(b"last")
    there.close()
    run_for(loop)
    assert received == [b"last", b""]


def test_pipes_can_be_watched(loop: asyncio.AbstractEventLoop) -> None:
    read_end, write_end = os.pipe()
    received: list[bytes] = []
    loop.add_reader(read_end, lambda: received.append(os.read(read_end, 10)))
    os.write(write_end, b"data")
    run_for(loop)
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)
    assert received == [b"data"]


def test_a_number_that_was_closed_and_reused_is_the_new_sockets() -> None:
    """Where asyncio never calls the new reader."""
    loop = motet.new_event_loop()
    called: list[str] = []
    old, old_peer = socket.socketpair()
    number = old.fileno()
    loop.add_reader(old, called.append, "old")
    run_for(loop)
    old.close()
    new, new_peer = socket.socketpair()
    assert new.fileno() == number

    def read() -> None:
        called.append(new.recv(10).decode())

    loop.add_reader(new, read)
    new_peer.send(b"new")
    old_peer.close()
    run_for(loop)
    assert called == ["new"]
    assert loop.remove_reader(new) is True
    new.close()
    new_peer.close()
    loop.close()


def test_a_closed_descriptor_can_still_be_removed(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
    here, _ = pair
    number = here.fileno()
    loop.add_reader(number, print)
    here.close()
    run_for(loop)
    assert loop.remove_reader(number) is True
    assert loop.remove_reader(number) is False


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_the_descriptor_of_a_transport_is_refused(make_loop: MakeLoop, pair: Pair, method: str) -> None:
    here, _ = pair

    async def main() -> str:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=here)
        arguments = [print] if method.startswith("add") else []
        with pytest.raises(RuntimeError) as raised:
            getattr(loop, method)(here.fileno(), *arguments)
        transport.close()
        await asyncio.sleep(0.01)
        return str(raised.value)

    with closing(make_loop()) as loop:
        assert "is used by transport" in loop.run_until_complete(main())


def test_add_reader_returns_nothing_that_outlives_removal(pair: Pair) -> None:
    here, there = pair
    with closing(motet.new_event_loop()) as loop:
        before = loop.statistics()["descriptors"]
        loop.add_reader(here, print)
        loop.add_writer(here, print)
        loop.add_reader(there, print)
        assert loop.statistics()["descriptors"] == before + 2
        for sock in pair:
            loop.remove_reader(sock)
        loop.remove_writer(here)
        assert loop.statistics()["descriptors"] == before
