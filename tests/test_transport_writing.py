"""Writing: order, coalescing, flow control, the end of the output, refused data."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop


class Writer(asyncio.Protocol):
    """Keeps what flow control says."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


Body = Callable[[asyncio.Transport, Writer, socket.socket], Awaitable[Any]]


def connected(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Body) -> Any:
    """Runs `body` with a transport, its protocol and the peer; closes all."""

    async def main() -> Any:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            transport, protocol = await asyncio.get_running_loop().create_unix_connection(Writer, sock=here)
            try:
                return await asyncio.wait_for(body(transport, protocol, there), 60)
            finally:
                if not transport.is_closing():
                    transport.abort()
                await protocol.lost

    with closing(make_loop()) as loop:
        return loop.run_until_complete(main())


async def read_all(peer: socket.socket) -> bytes:
    received = bytearray()
    while part := await asyncio.get_running_loop().sock_recv(peer, 65536):
        received += part
    return bytes(received)


def test_writes_arrive_in_order(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        for number in range(1000):
            transport.write(b"%d " % number)
            if number % 100 == 0:
                await asyncio.sleep(0)
        transport.write_eof()
        return await read_all(peer)

    assert connected(make_loop, body) == b"".join(b"%d " % number for number in range(1000))


def test_lists_of_data_arrive_in_order() -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        for number in range(300):
            transport.writelines([b"%d" % number, bytearray(b"a"), memoryview(b"b"), b""])
            transport.write(b" ")
            if number % 100 == 0:
                await asyncio.sleep(0)
        transport.writelines([])
        transport.write_eof()
        return await read_all(peer)

    assert connected(motet.new_event_loop, body) == b"".join(b"%dab " % number for number in range(300))


def test_the_first_write_of_a_round_goes_out_at_once() -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        transport.write(b"at once")
        return peer.recv(100)

    assert connected(motet.new_event_loop, body) == b"at once"


def test_the_later_writes_of_a_round_go_out_together() -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> list[bytes]:
        for number in range(5):
            transport.write(b"%d" % number)
        first = peer.recv(100)
        await asyncio.sleep(0)
        return [first, peer.recv(100)]

    assert connected(motet.new_event_loop, body) == [b"0", b"1234"]


def test_writes_outside_a_run_are_sent() -> None:
    async def connect() -> tuple[asyncio.Transport, socket.socket]:
        here, there = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_unix_connection(Writer, sock=here)
        there.settimeout(30)
        return transport, there

    with closing(motet.new_event_loop()) as loop:
        transport, there = loop.run_until_complete(connect())
        for text in (b"one ", b"two ", b"three"):
            transport.write(text)
        transport.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        with there:
            assert there.recv(100) + there.recv(100) == b"one two three"


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x"), memoryview(b"axa")[1:2]])
def test_what_can_be_written(make_loop: MakeLoop, data: Any) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        transport.write(data)
        transport.close()
        return await read_all(peer)

    assert connected(make_loop, body) == b"x"


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"], object()])
def test_what_cannot_be_written(make_loop: MakeLoop, data: Any) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        with pytest.raises(TypeError, match="data argument must be a bytes"):
            transport.write(data)
        transport.write(b"still open")
        transport.close()
        return await read_all(peer)

    assert connected(make_loop, body) == b"still open"


def test_a_buffer_may_be_changed_after_the_write() -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        data = bytearray(b"a" * 1_000_000)
        transport.write(data)
        data[:] = b"b" * len(data)
        transport.write_eof()
        return await read_all(peer)

    assert connected(motet.new_event_loop, body) == b"a" * 1_000_000


def test_flow_control_follows_the_limits(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> None:
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        while transport.get_write_buffer_size() == 0:
            transport.write(bytes(65536))
            await asyncio.sleep(0)
        while "pause" not in protocol.events:
            transport.write(bytes(500))
        assert transport.get_write_buffer_size() > 1000
        assert protocol.events == ["pause"]
        transport.write(bytes(5000))
        assert protocol.events == ["pause"]
        while "resume" not in protocol.events:
            await asyncio.get_running_loop().sock_recv(peer, 65536)
        assert transport.get_write_buffer_size() <= 100
        assert protocol.events == ["pause", "resume"]

    connected(make_loop, body)


LIMITS: list[tuple[dict[str, int | None], tuple[int, int]]] = [
    ({}, (16384, 65536)),
    ({"high": 400}, (100, 400)),
    ({"low": 100}, (100, 400)),
    ({"high": 0}, (0, 0)),
    ({"high": 8, "low": 8}, (8, 8)),
    ({"high": None, "low": None}, (16384, 65536)),
]


@pytest.mark.parametrize(("given", "limits"), LIMITS)
def test_limits(make_loop: MakeLoop, given: dict[str, int | None], limits: tuple[int, int]) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> tuple[int, int]:
        transport.set_write_buffer_limits(**given)
        return transport.get_write_buffer_limits()

    assert connected(make_loop, body) == limits


def test_limits_that_make_no_sense(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> None:
        for given in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
            with pytest.raises(ValueError, match=r"high \(.*\) must be >= low \(.*\) must be >= 0"):
                transport.set_write_buffer_limits(**given)

    connected(make_loop, body)


def test_half_closed_output_goes_on_reading(make_loop: MakeLoop) -> None:
    async def main() -> tuple[bytes, bytes]:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            reader, writer = await asyncio.open_unix_connection(sock=here)
            assert writer.can_write_eof()
            writer.write(b"request " * 100_000)
            writer.write_eof()
            writer.write_eof()
            with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
                writer.write(b"more")
            with pytest.raises(RuntimeError, match=r"Cannot call write(lines)?\(\) after write_eof\(\)"):
                writer.writelines([b"more"])
            request = await read_all(there)
            await asyncio.get_running_loop().sock_sendall(there, b"answer")
            there.shutdown(socket.SHUT_WR)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return request, answer

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == (b"request " * 100_000, b"answer")


def test_close_sends_what_is_queued(make_loop: MakeLoop) -> None:
    data = bytes(range(256)) * 8192

    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> bytes:
        transport.write(data)
        transport.close()
        assert transport.is_closing()
        received = await read_all(peer)
        assert await protocol.lost is None
        return received

    assert connected(make_loop, body) == data


def test_abort_drops_what_is_queued(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> int:
        transport.write(bytes(10_000_000))
        transport.abort()
        assert transport.is_closing()
        assert await protocol.lost is None
        return len(await read_all(peer))

    assert connected(make_loop, body) < 10_000_000


def test_writing_to_a_lost_connection_warns(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> None:
        transport.abort()
        for _ in range(10):
            transport.write(b"into the void")

    connected(make_loop, body)
    assert {record.getMessage() for record in caplog.records} == {"socket.send() raised exception."}


def test_a_peer_that_went_away_is_told_with_its_error(make_loop: MakeLoop) -> None:
    async def body(transport: asyncio.Transport, protocol: Writer, peer: socket.socket) -> Exception | None:
        peer.close()
        transport.pause_reading()
        transport.write(b"nobody reads this")
        return await protocol.lost

    error = connected(make_loop, body)
    # Whether the end or the failed write is noticed first depends on the moment.
    assert error is None or isinstance(error, BrokenPipeError | ConnectionResetError)
    assert error is None or error.errno
