"""Reading: pauses, the end of the input, a change of protocol, buffers of the protocol's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeLoop


class Reader(asyncio.Protocol):
    """Keeps everything that it hears."""

    keep_open = False

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.received.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keep_open

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(error)

    @property
    def all(self) -> bytes:
        return b"".join(self.received)


Body = Callable[[asyncio.Transport, Reader, socket.socket], Awaitable[Any]]


def connected(make_loop: MakeLoop, body: Body) -> Any:
    """Runs `body` with a transport, its protocol and the peer; closes all."""

    async def main() -> Any:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            transport, protocol = await asyncio.get_running_loop().create_unix_connection(Reader, sock=here)
            try:
                return await asyncio.wait_for(body(transport, protocol, there), 60)
            finally:
                transport.abort()
                await asyncio.sleep(0.01)

    with closing(make_loop()) as loop:
        return loop.run_until_complete(main())


def test_a_paused_transport_reads_nothing(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.send(b"early")
        await asyncio.sleep(0.02)
        assert protocol.received == []
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        await asyncio.sleep(0.01)
        assert protocol.all == b"early"
        peer.send(b" late")
        await asyncio.sleep(0.01)
        assert protocol.all == b"early late"

    connected(make_loop, body)


def test_a_pause_within_data_received_holds(make_loop: MakeLoop) -> None:
    size = 1_000_000

    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        class Pausing(Reader):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.001, transport.resume_reading)

        pausing = Pausing()
        transport.set_protocol(pausing)
        await asyncio.get_running_loop().sock_sendall(peer, bytes(size))
        peer.close()
        await pausing.lost
        assert len(pausing.all) == size
        assert len(pausing.received) > 1

    connected(make_loop, body)


def test_a_pause_in_connection_made_holds(make_loop: MakeLoop) -> None:
    class Paused(Reader):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()

    async def main() -> bytes:
        here, there = socket.socketpair()
        there.send(b"waiting")
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Paused, sock=here)
        await asyncio.sleep(0.02)
        assert protocol.received == []
        transport.resume_reading()
        await asyncio.sleep(0.01)
        there.close()
        await protocol.lost
        return protocol.all

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == b"waiting"


def test_an_end_that_comes_during_a_pause_is_read_afterwards(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        transport.pause_reading()
        peer.send(b"last")
        peer.close()
        await asyncio.sleep(0.02)
        assert protocol.events == []
        transport.resume_reading()
        assert await protocol.lost is None
        assert protocol.all == b"last"
        assert protocol.events == ["eof", "lost"]

    connected(make_loop, body)


def test_the_end_right_behind_data_is_told(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        peer.send(b"last")
        peer.close()
        assert await protocol.lost is None
        assert protocol.all == b"last"
        assert protocol.events == ["eof", "lost"]

    connected(make_loop, body)


def test_a_protocol_may_write_on_after_the_end_of_its_input(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        protocol.keep_open = True
        peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.02)
        assert protocol.events == ["eof"]
        assert not transport.is_closing()
        transport.write(b"answer")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"answer"
        transport.close()
        assert await protocol.lost is None
        assert protocol.events == ["eof", "lost"]

    connected(make_loop, body)


def test_nothing_is_told_after_close(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        peer.send(b"too late")
        transport.close()
        assert not transport.is_reading()
        await protocol.lost
        await asyncio.sleep(0.01)
        assert protocol.received == []
        assert protocol.events == ["lost"]

    connected(make_loop, body)


def test_a_protocol_can_be_replaced_in_the_middle(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Reader, peer: socket.socket) -> None:
        second = Reader()

        class Switching(Reader):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                transport.set_protocol(second)

        first = Switching()
        transport.set_protocol(first)
        assert transport.get_protocol() is first
        peer.send(b"first")
        await asyncio.sleep(0.01)
        assert transport.get_protocol() is second
        peer.send(b"second")
        peer.close()
        await second.lost
        assert (first.all, second.all) == (b"first", b"second")
        assert first.events == protocol.events == []

    connected(make_loop, body)


class Buffered(asyncio.BufferedProtocol):
    """Reads into a buffer of a given size."""

    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


@pytest.mark.parametrize("size", [1, 7, 4096, 1_000_000])
def test_a_buffered_protocol_reads_all(make_loop: MakeLoop, size: int) -> None:
    data = bytes(range(256)) * (1 if size == 1 else 2000)

    async def body(transport: asyncio.Transport, _: Reader, peer: socket.socket) -> bytes:
        buffered = Buffered(size)
        transport.set_protocol(buffered)
        await asyncio.get_running_loop().sock_sendall(peer, data)
        peer.close()
        assert await buffered.lost is None
        return bytes(buffered.received)

    assert connected(make_loop, body) == data


@pytest.mark.parametrize("buffer", [bytearray(), b"read only", None])
def test_a_buffer_that_cannot_be_used_ends_the_connection(make_loop: MakeLoop, buffer: Any) -> None:
    class Unusable(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            return buffer

    async def body(transport: asyncio.Transport, _: Reader, peer: socket.socket) -> Exception | None:
        reports: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, details: reports.append(details["exception"])
        )
        unusable = Unusable(1)
        transport.set_protocol(unusable)
        peer.send(b"data")
        error = await unusable.lost
        assert reports == [error]
        return error

    assert isinstance(connected(make_loop, body), RuntimeError | TypeError | BufferError)


def test_a_reset_connection_says_so(make_loop: MakeLoop) -> None:
    async def main() -> Exception | None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        _, protocol = await loop.connect_accepted_socket(Reader, accepted)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        return await protocol.lost

    with closing(make_loop()) as loop:
        error = loop.run_until_complete(main())
    assert isinstance(error, ConnectionResetError)
    assert error.errno == 104
    assert str(error) == "[Errno 104] Connection reset by peer"
