"""Datagram transports: addresses, whole datagrams in order, errors, flow control, the end."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop

Received = tuple[bytes, Any]


class Endpoint(asyncio.DatagramProtocol):
    """Keeps everything that it hears."""

    def __init__(self) -> None:
        self.datagrams: asyncio.Queue[Received] = asyncio.Queue()
        self.errors: asyncio.Queue[OSError] = asyncio.Queue()
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: Any) -> None:
        assert type(data) is bytes
        self.datagrams.put_nowait((data, address))

    def error_received(self, error: Exception) -> None:
        assert isinstance(error, OSError)
        self.errors.put_nowait(error)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


async def make(**options: Any) -> tuple[Any, Endpoint]:
    """An endpoint of the running loop. Its transport has the methods of both of asyncio's classes."""
    return await asyncio.get_running_loop().create_datagram_endpoint(Endpoint, **options)


async def end(*ends: tuple[Any, Endpoint]) -> None:
    for transport, _ in ends:
        transport.close()
    for _, protocol in ends:
        await protocol.lost


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Callable[[], Awaitable[Any]]) -> Any:
    with closing(make_loop()) as loop:
        result = loop.run_until_complete(asyncio.wait_for(body(), 60))
        loop.run_until_complete(loop.shutdown_default_executor())
        return result


def unix_socket(path: str | bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(path)
    return sock


LOCAL = ("127.0.0.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_question_and_its_answer(make_loop: MakeLoop, host: str) -> None:
    async def main() -> None:
        server, answering = await make(local_addr=(host, 0))
        server_name = server.get_extra_info("sockname")
        client, asking = await make(local_addr=(host, 0), family=server.get_extra_info("socket").family)
        client_name = client.get_extra_info("sockname")
        client.sendto(b"question", server_name)
        assert await answering.datagrams.get() == (b"question", client_name)
        server.sendto(b"answer", client_name)
        data, address = await asking.datagrams.get()
        assert (data, address) == (b"answer", server_name)
        assert [type(part) for part in address] == [type(part) for part in server_name]
        await end((client, asking), (server, answering))

    try:
        run(make_loop, main)
    except OSError as error:
        if host != "::1" or error.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip("no IPv6 here")


def test_an_endpoint_with_a_remote_address(make_loop: MakeLoop) -> None:
    async def main() -> None:
        server, answering = await make(local_addr=LOCAL)
        name = server.get_extra_info("sockname")
        client, asking = await make(remote_addr=name)
        assert client.get_extra_info("peername") == name
        client.sendto(b"one")
        client.sendto(b"two", None)
        client.sendto(b"three", addr=name)
        with pytest.raises(ValueError, match=r"Invalid address: must be None or \('127.0.0.1', "):
            client.sendto(b"four", ("127.0.0.1", 1))
        own = client.get_extra_info("sockname")
        received = [await answering.datagrams.get() for _ in range(3)]
        assert received == [(b"one", own), (b"two", own), (b"three", own)]
        await end((client, asking), (server, answering))

    run(make_loop, main)


def test_broadcasting_leaves_the_socket_unconnected(make_loop: MakeLoop) -> None:
    async def main() -> None:
        server, answering = await make(local_addr=LOCAL)
        name = server.get_extra_info("sockname")
        client, asking = await make(remote_addr=name, allow_broadcast=True, family=socket.AF_INET)
        assert client.get_extra_info("peername") is None
        assert client.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        client.sendto(b"to all")
        assert (await answering.datagrams.get())[0] == b"to all"
        await end((client, asking), (server, answering))

    run(make_loop, main)


def test_options(make_loop: MakeLoop) -> None:
    async def main() -> None:
        first = await make(local_addr=LOCAL, reuse_port=True)
        name = first[0].get_extra_info("sockname")
        second = await make(local_addr=name, reuse_port=True)
        with pytest.raises(OSError, match="in use"):
            await make(local_addr=name)
        with pytest.raises(TypeError, match="reuse_address"):
            await make(local_addr=LOCAL, reuse_address=True)
        with pytest.raises(ValueError, match="unexpected address family"):
            await make()
        with (
            socket.socket() as stream,
            pytest.raises(ValueError, match=r"A (datagram|UDP) [sS]ocket was expected"),
        ):
            await make(sock=stream)
        await end(first, second)

    run(make_loop, main)


def test_unix_addresses(make_loop: MakeLoop, tmp_path: Path) -> None:
    abstract = b"\0motet-%d-%d" % (os.getpid(), id(make_loop))

    async def main() -> None:
        path = str(tmp_path / "server")
        server, answering = await make(local_addr=path, family=socket.AF_UNIX)
        named, _ = ends = await make(sock=unix_socket(str(tmp_path / "client")))
        hidden = await make(sock=unix_socket(abstract))
        nameless = await make(family=socket.AF_UNIX)
        named.sendto(b"by path", path)
        hidden[0].sendto(b"by bytes", os.fsencode(path))
        nameless[0].sendto(b"by nobody", path)
        received = [await answering.datagrams.get() for _ in range(3)]
        assert received == [
            (b"by path", str(tmp_path / "client")),
            (b"by bytes", abstract),
            (b"by nobody", None),
        ]
        server.sendto(b"back", abstract)
        assert await hidden[1].datagrams.get() == (b"back", path)
        named.sendto(b"too far", "x" * 200)
        assert "too long" in str(await ends[1].errors.get())
        await end(ends, hidden, nameless, (server, answering))

    run(make_loop, main)


def test_a_pair_of_sockets_needs_no_address() -> None:
    async def main() -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        transport, protocol = await make(sock=here)
        transport.sendto(b"hello")
        assert there.recv(100) == b"hello"
        there.send(bytes(100_000))
        assert await protocol.datagrams.get() == (bytes(100_000), None)
        await end((transport, protocol))
        there.close()

    run(motet.new_event_loop, main)


def test_empty_datagrams() -> None:
    async def main() -> None:
        server, answering = await make(local_addr=LOCAL)
        client, asking = await make(remote_addr=server.get_extra_info("sockname"))
        for data in (b"", bytearray(), b"end"):
            client.sendto(data)
        assert [(await answering.datagrams.get())[0] for _ in range(3)] == [b"", b"", b"end"]
        await end((client, asking), (server, answering))

    run(motet.new_event_loop, main)
    if sys.version_info >= (3, 13):
        run(asyncio.new_event_loop, main)


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"]])
def test_what_cannot_be_sent(make_loop: MakeLoop, data: Any) -> None:
    async def main() -> None:
        ends = await make(local_addr=LOCAL)
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
            ends[0].sendto(data, ("127.0.0.1", 1))
        assert not ends[0].is_closing()
        await end(ends)

    run(make_loop, main)


BAD_ADDRESSES: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "needs an address"),
    ("127.0.0.1", TypeError, "AF_INET address must be tuple, not str"),
    (("127.0.0.1",), TypeError, r"AF_INET address must be a pair \(host, port\)"),
    (("127.0.0.1", "1"), TypeError, "int"),
    ((1, 1), TypeError, "host must be str or bytes, not int"),
    (("127.0.0.1", 65536), OverflowError, "port must be 0-65535"),
    (("127.0.0.1", -1), OverflowError, "port must be 0-65535"),
]


@pytest.mark.parametrize(("address", "error", "text"), BAD_ADDRESSES)
def test_bad_addresses_fail_at_the_call(address: Any, error: type[Exception], text: str) -> None:
    """asyncio closes the transport."""

    async def main() -> None:
        ends = await make(local_addr=LOCAL)
        with pytest.raises(error, match=text):
            ends[0].sendto(b"data", address)
        ends[0].sendto(b"still open", ends[0].get_extra_info("sockname"))
        assert (await ends[1].datagrams.get())[0] == b"still open"
        await end(ends)

    run(motet.new_event_loop, main)


def test_names_are_resolved(make_loop: MakeLoop) -> None:
    async def main() -> None:
        ends = await make(local_addr=LOCAL)
        port = ends[0].get_extra_info("sockname")[1]
        for host in ("localhost", "127.1", b"127.0.0.1", ""):
            ends[0].sendto(repr(host).encode(), (host, port))
            assert (await ends[1].datagrams.get())[0] == repr(host).encode()
        ends[0].sendto(b"nowhere", ("name.invalid", port))
        assert isinstance(await ends[1].errors.get(), socket.gaierror)
        await end(ends)

    run(make_loop, main)


def test_a_refused_datagram_is_told_and_the_socket_goes_on(make_loop: MakeLoop) -> None:
    async def main() -> None:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(LOCAL)
        name = sock.getsockname()
        sock.close()
        client, asking = await make(remote_addr=name)
        client.sendto(b"anybody?")
        assert isinstance(await asking.errors.get(), ConnectionRefusedError)
        server, answering = await make(local_addr=name)
        client.sendto(b"anybody?")
        assert (await answering.datagrams.get())[0] == b"anybody?"
        await end((client, asking), (server, answering))

    run(make_loop, main)


def test_a_datagram_that_is_too_long_harms_no_other(make_loop: MakeLoop) -> None:
    async def main() -> None:
        ends = await make(local_addr=LOCAL)
        name = ends[0].get_extra_info("sockname")
        for data in (b"before", b"collected", bytes(100_000), b"after", bytearray(b"last")):
            ends[0].sendto(data, name)
        received = [(await ends[1].datagrams.get())[0] for _ in range(4)]
        assert received == [b"before", b"collected", b"after", b"last"]
        assert (await ends[1].errors.get()).errno == errno.EMSGSIZE
        await end(ends)

    run(make_loop, main)


def test_datagrams_arrive_whole_and_in_order(make_loop: MakeLoop, tmp_path: Path) -> None:
    """Far more than fit: a Unix socket's queue takes a few, and tells nobody when it has room."""

    async def main() -> None:
        server, answering = await make(sock=unix_socket(str(tmp_path / "server")))
        client, asking = await make(family=socket.AF_UNIX)
        sizes = [number * 37 % 3000 for number in range(1000)]
        for number, size in enumerate(sizes):
            client.sendto(b"%d " % number + bytes(size), str(tmp_path / "server"))
        client.close()
        for number, size in enumerate(sizes):
            assert await answering.datagrams.get() == (b"%d " % number + bytes(size), None)
        assert await asking.lost is None
        assert "pause" in asking.events
        await end((server, answering))

    run(make_loop, main)


def test_a_receiver_that_is_full_of_others(tmp_path: Path) -> None:
    """Nothing of the sender's own is in the queue whose end it could hear of."""

    async def main() -> None:
        receiver = unix_socket(str(tmp_path / "receiver"))
        receiver.setblocking(False)
        with receiver, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            filled = 0
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"other", receiver.getsockname())
                    filled += 1
            ends = await make(family=socket.AF_UNIX)
            ends[0].sendto(b"mine", receiver.getsockname())
            assert ends[0].get_write_buffer_size() == len(b"mine") + 8
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            received = [await loop.sock_recv(receiver, 100) for _ in range(filled + 1)]
            assert received == [b"other"] * filled + [b"mine"]
            await end(ends)

    run(motet.new_event_loop, main)


def test_flow_control_follows_the_limits(make_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        there = unix_socket(str(tmp_path / "there"))
        there.setblocking(False)
        transport, protocol = await make(remote_addr=there.getsockname(), family=socket.AF_UNIX)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        sent = 0
        while "pause" not in protocol.events:
            transport.sendto(bytes(500))
            sent += 1
        assert transport.get_write_buffer_size() > 1000
        transport.sendto(bytes(5000))
        assert protocol.events == ["pause"]
        received = 0
        while received < sent + 1:
            await asyncio.get_running_loop().sock_recv(there, 65536)
            received += 1
        assert protocol.events == ["pause", "resume"]
        await end((transport, protocol))
        there.close()

    run(make_loop, main)


def test_abort_drops_what_is_queued_and_close_sends_it(make_loop: MakeLoop, tmp_path: Path) -> None:
    async def main(method: str) -> int:
        receiver = unix_socket(str(tmp_path / method))
        receiver.setblocking(False)
        ends = await make(family=socket.AF_UNIX)
        while ends[0].get_write_buffer_size() < 1000:
            ends[0].sendto(b"x" * 90, receiver.getsockname())
            await asyncio.sleep(0)
        getattr(ends[0], method)()
        assert ends[0].is_closing()
        count = 0
        with receiver, suppress(BlockingIOError):
            while True:
                receiver.recv(100)
                count += 1
                await asyncio.sleep(0.01)
        assert await ends[1].lost is None
        return count

    aborted = run(make_loop, lambda: main("abort"))
    assert run(make_loop, lambda: main("close")) > aborted


def test_nothing_is_received_after_close(make_loop: MakeLoop) -> None:
    class Closing(Endpoint):
        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            self.transport.close()
            self.transport.close()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

    async def main() -> int:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Closing, local_addr=LOCAL
        )
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            for _ in range(5):
                other.sendto(b"x", transport.get_extra_info("sockname"))
        assert await protocol.lost is None
        transport.abort()
        return protocol.datagrams.qsize()

    assert run(make_loop, main) == 1


def test_sending_after_the_end_does_nothing(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ends = await make(remote_addr=("127.0.0.1", 1))
        await end(ends)
        for _ in range(10):
            ends[0].sendto(b"into the void")

    with caplog.at_level("WARNING", "asyncio"):
        run(make_loop, main)
    assert {record.getMessage() for record in caplog.records} == {"socket.send() raised exception."}


def test_reading_can_be_paused(make_loop: MakeLoop) -> None:
    async def main() -> None:
        ends = await make(local_addr=LOCAL)
        transport, protocol = ends
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        for number in range(40):
            transport.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        await asyncio.sleep(0.02)
        assert protocol.datagrams.empty()
        transport.resume_reading()
        received = [(await protocol.datagrams.get())[0] for _ in range(40)]
        assert received == [b"%d" % number for number in range(40)]
        await end(ends)

    run(make_loop, main)


class Raising(Endpoint):
    """Raises at the datagram `fail`."""

    error: BaseException

    def datagram_received(self, data: bytes, address: Any) -> None:
        super().datagram_received(data, address)
        if data == b"fail":
            raise self.error


def test_an_exception_of_the_protocol_is_reported_and_the_next_datagram_comes(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, details: reported.append(details))
        transport, protocol = await loop.create_datagram_endpoint(Raising, local_addr=LOCAL)
        protocol.error = ZeroDivisionError()
        for data in (b"one", b"fail", b"two"):
            transport.sendto(data, transport.get_extra_info("sockname"))
        received = [(await protocol.datagrams.get())[0] for _ in range(3)]
        assert received == [b"one", b"fail", b"two"]
        await end((transport, protocol))
        assert [details["exception"] for details in reported] == [protocol.error]

    run(make_loop, main)


def test_a_keyboard_interrupt_loses_no_datagram() -> None:
    with closing(motet.new_event_loop()) as loop:
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(Raising, local_addr=LOCAL)
        )
        protocol.error = KeyboardInterrupt()
        for number in range(20):
            data = b"fail" if number == 5 else b"%d" % number
            transport.sendto(data, transport.get_extra_info("sockname"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(30))

        async def rest() -> list[bytes]:
            received = [(await protocol.datagrams.get())[0] for _ in range(20)]
            await end((transport, protocol))
            return received

        expected = [b"fail" if number == 5 else b"%d" % number for number in range(20)]
        assert loop.run_until_complete(asyncio.wait_for(rest(), 30)) == expected


def test_methods_of_the_protocol_run_where_the_endpoint_was_made(make_loop: MakeLoop) -> None:
    where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []

    class Looking(Endpoint):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(where.get())

        def datagram_received(self, data: bytes, address: Any) -> None:
            super().datagram_received(data, address)
            seen.append(where.get())

    async def main() -> None:
        where.set("made")
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Looking, local_addr=LOCAL
        )
        where.set("later")
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.datagrams.get()
        await end((transport, protocol))

    run(make_loop, main)
    assert seen == ["made", "made"]


def test_it_is_a_real_transport(make_loop: MakeLoop) -> None:
    async def main() -> None:
        transport, protocol = ends = await make(local_addr=LOCAL)
        is_own = make_loop is motet.new_event_loop
        assert isinstance(transport, motet.DatagramTransport) == is_own
        assert isinstance(transport, asyncio.DatagramTransport) or (not is_own and sys.version_info < (3, 12))
        assert isinstance(transport, asyncio.Transport)
        assert weakref.ref(transport)() is transport
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("unknown", 1) == 1
        assert transport.get_protocol() is protocol
        other = Endpoint()
        transport.set_protocol(other)
        transport.sendto(b"x", sock.getsockname())
        assert (await other.datagrams.get())[0] == b"x"
        with pytest.raises(RuntimeError, match="is used by transport"):
            asyncio.get_running_loop().add_reader(sock.fileno(), print)
        assert f"fd={sock.fileno()}" in repr(transport)
        transport.set_protocol(protocol)
        await end(ends)
        assert "closed" in repr(transport)

    run(make_loop, main)


def test_a_closed_endpoint_is_let_go() -> None:
    async def main() -> list[object]:
        ends = await make(local_addr=LOCAL)
        ends[0].sendto(b"x", ends[0].get_extra_info("sockname"))
        await ends[1].datagrams.get()
        references = [weakref.ref(part) for part in ends]
        await end(ends)
        await asyncio.sleep(0)
        del ends
        gc.collect()
        return [reference() for reference in references]

    assert run(motet.new_event_loop, main) == [None, None]


def test_a_forgotten_endpoint_warns_and_closes() -> None:
    def forget() -> int:
        with closing(motet.new_event_loop()) as loop:
            transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Endpoint, local_addr=LOCAL))
            number: int = transport.get_extra_info("socket").fileno()
            del transport
        gc.collect()
        return number

    with pytest.warns(ResourceWarning, match="unclosed transport <DatagramTransport"):
        number = forget()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_descriptor_that_was_taken_away_is_not_used() -> None:
    """The program detaches the socket object that it gave; another file gets the number."""

    async def main() -> None:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        transport, protocol = await make(sock=sock)
        number = sock.detach()
        os.close(number)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        assert number in (here.fileno(), there.fileno())
        transport.sendto(b"secret", ("127.0.0.1", 1))
        error = await protocol.lost
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        for part in (here, there):
            part.setblocking(False)
            with part, pytest.raises(BlockingIOError):
                part.recv(100)

    run(motet.new_event_loop, main)


def test_families_that_only_the_socket_module_knows(make_loop: MakeLoop) -> None:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    except OSError as error:
        pytest.skip(f"no Netlink here: {error}")

    async def main() -> None:
        transport, protocol = ends = await make(sock=sock)
        assert repr(transport)
        sock.bind((0, 0))
        # A request of a type that the kernel does not have: it answers with an error message (type 2).
        transport.sendto(bytes([16, 0, 0, 0, 1, 1, 5, 0]) + bytes(8), (0, 0))
        data, address = await protocol.datagrams.get()
        assert (data[4], address) == (2, (0, 0))
        await end(ends)

    run(make_loop, main)
