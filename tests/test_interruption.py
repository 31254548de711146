"""`KeyboardInterrupt` and `SystemExit` in the middle of a round: a loop that runs again has lost nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from types import FrameType

import pytest
from conftest import MakeLoop

pytestmark = pytest.mark.thread_unsafe(reason="signals belong to the main thread")


class OnPurposeError(Exception):
    """Raised by a signal handler."""


class Recorder(asyncio.Protocol):
    """Raises once, with the first data, if told to."""

    received = b""
    interrupt = False
    lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


@pytest.fixture
def loop(make_loop: MakeLoop) -> Iterator[asyncio.AbstractEventLoop]:
    with closing(make_loop()) as loop:
        yield loop


def connect(loop: asyncio.AbstractEventLoop, count: int) -> list[tuple[Recorder, socket.socket]]:
    """Protocols with the peers of their connections."""

    async def connect_one() -> tuple[Recorder, socket.socket]:
        here, there = socket.socketpair()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        there.setblocking(False)
        _, protocol = await loop.create_unix_connection(Recorder, sock=here)
        return protocol, there

    async def main() -> list[tuple[Recorder, socket.socket]]:
        return [await connect_one() for _ in range(count)]

    return loop.run_until_complete(main())


def disconnect(loop: asyncio.AbstractEventLoop, connections: list[tuple[Recorder, socket.socket]]) -> None:
    for _, peer in connections:
        peer.close()
    deadline = loop.time() + 10
    while not all(protocol.lost for protocol, _ in connections) and loop.time() < deadline:
        loop.run_until_complete(asyncio.sleep(0.001))


def run_interrupted(loop: asyncio.AbstractEventLoop, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        loop.run_until_complete(asyncio.sleep(30))
    loop.run_until_complete(asyncio.sleep(0.05))


def test_events_of_other_connections_are_kept(loop: asyncio.AbstractEventLoop) -> None:
    connections = connect(loop, 8)
    for number, (protocol, peer) in enumerate(connections):
        protocol.interrupt = number == 3
        peer.send(b"data")
    run_interrupted(loop, KeyboardInterrupt)
    assert [protocol.received for protocol, _ in connections] == [b"data"] * 8
    disconnect(loop, connections)


def test_the_rest_of_the_same_connections_data_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    connections = connect(loop, 1)
    ((protocol, peer),) = connections
    sent = 0
    with suppress(BlockingIOError):
        while sent < 1_000_000:
            sent += peer.send(bytes(50_000))
    protocol.interrupt = True
    run_interrupted(loop, KeyboardInterrupt)
    assert len(protocol.received) == sent > 300_000
    disconnect(loop, connections)


def test_the_end_of_the_stream_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    connections = connect(loop, 1)
    ((protocol, peer),) = connections
    peer.send(b"data")
    peer.close()
    protocol.interrupt = True
    run_interrupted(loop, KeyboardInterrupt)
    assert protocol.received == b"data"
    assert protocol.lost


def test_connections_that_wait_at_a_server_are_kept(loop: asyncio.AbstractEventLoop) -> None:
    made: list[Recorder] = []

    class Accepted(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            if len(made) == 1:
                raise SystemExit

    server = loop.run_until_complete(loop.create_server(Accepted, "127.0.0.1", 0))
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(4)]
    run_interrupted(loop, SystemExit)
    assert len(made) == 4
    for client in clients:
        client.close()
    loop.run_until_complete(asyncio.sleep(0.05))
    server.close()
    assert all(protocol.lost for protocol in made[1:])


def test_a_signal_handler_that_raises_loses_no_event(loop: asyncio.AbstractEventLoop) -> None:
    connections = connect(loop, 4)

    def handle(number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code is Recorder.data_received.__code__:
            # What is raised there is the protocol's own failure. It comes again, while the loop has control.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            return
        raise OnPurposeError

    def send_and_signal() -> None:
        for _, peer in connections:
            peer.send(b"data")
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        sender = threading.Timer(0.05, send_and_signal)
        sender.start()
        run_interrupted(loop, OnPurposeError)
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [protocol.received for protocol, _ in connections] == [b"data"] * 4
    disconnect(loop, connections)


def test_waiting_socket_calls_and_writes_are_kept(loop: asyncio.AbstractEventLoop) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)

        def interrupt() -> None:
            there.send(b"data")
            raise KeyboardInterrupt

        receiving = loop.create_task(loop.sock_recv(here, 10))
        loop.call_later(0.01, interrupt)
        run_interrupted(loop, KeyboardInterrupt)
        assert receiving.result() == b"data"


def test_writes_of_an_interrupted_round_are_sent(loop: asyncio.AbstractEventLoop) -> None:
    async def connect_writer() -> tuple[asyncio.Transport, socket.socket]:
        here, there = socket.socketpair()
        there.settimeout(30)
        transport, _ = await loop.create_unix_connection(Recorder, sock=here)
        return transport, there

    transport, there = loop.run_until_complete(connect_writer())

    def write_and_interrupt() -> None:
        for number in range(10):
            transport.write(b"%d" % number)
        raise KeyboardInterrupt

    loop.call_soon(write_and_interrupt)
    run_interrupted(loop, KeyboardInterrupt)
    assert there.recv(100) == b"0123456789"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0.01))
    there.close()
