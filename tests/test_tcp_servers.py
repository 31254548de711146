"""`create_server` and `asyncio.Server`: every argument, starting, closing, the connections' end."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop

Main = Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, Any]]


def run(make_loop: MakeLoop, main: Main) -> Any:
    with closing(make_loop()) as loop:
        try:
            return loop.run_until_complete(asyncio.wait_for(main(loop), 60))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())


class Echo(asyncio.Protocol):
    """Sends back what it receives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def call_wrongly(method: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """A call that type checkers refuse."""
    await method(*arguments, **keywords)


async def ask(host: str, port: int, text: bytes = b"question") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(text)
    answer = await reader.readexactly(len(text))
    writer.close()
    await writer.wait_closed()
    return answer


async def end(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def test_a_server_serves(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
            assert isinstance(server, asyncio.Server)
            assert server.is_serving()
            assert server.get_loop() is loop
            answers = await asyncio.gather(
                *(ask("127.0.0.1", port_of(server), b"%d" % number) for number in range(50))
            )
            assert answers == [b"%d" % number for number in range(50)]
        assert not server.is_serving()
        assert server.sockets == ()

    run(make_loop, main)


def test_several_hosts(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, ["127.0.0.1", "127.0.0.2"], 0)
        names = [sock.getsockname() for sock in server.sockets]
        assert sorted(name[0] for name in names) == ["127.0.0.1", "127.0.0.2"]
        for host, port in names:
            assert await ask(host, port) == b"question"
        await end(server)

    run(make_loop, main)


@pytest.mark.parametrize("host", [None, ""])
def test_all_addresses(make_loop: MakeLoop, host: str | None) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, host, 0, family=socket.AF_INET)
        assert server.sockets[0].getsockname()[0] == "0.0.0.0"
        assert await ask("127.0.0.1", port_of(server)) == b"question"
        await end(server)

    run(make_loop, main)


def test_internet_protocol_6(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        try:
            server = await loop.create_server(Echo, "::1", 0)
        except OSError as error:
            pytest.skip(f"no IPv6 on the loopback: {error}")
        assert server.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        assert await ask("::1", port_of(server)) == b"question"
        await end(server)

    run(make_loop, main)


def test_options_of_the_socket(make_loop: MakeLoop) -> None:
    def option(server: asyncio.Server, name: int) -> int:
        return server.sockets[0].getsockopt(socket.SOL_SOCKET, name)

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        plain = await loop.create_server(Echo, "127.0.0.1", 0)
        assert option(plain, socket.SO_REUSEADDR) == 1
        assert option(plain, socket.SO_REUSEPORT) == 0
        changed = await loop.create_server(Echo, "127.0.0.1", 0, reuse_address=False, reuse_port=True)
        assert option(changed, socket.SO_REUSEADDR) == 0
        assert option(changed, socket.SO_REUSEPORT) == 1
        second = await loop.create_server(Echo, "127.0.0.1", port_of(changed), reuse_port=True)
        for server in (plain, changed, second):
            await end(server)

    run(make_loop, main)


def test_keep_alive() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        assert isinstance(loop, motet.EventLoop)
        server = await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=True)
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await end(server)

    run(motet.new_event_loop, main)


def test_a_port_in_use(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> OSError:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        with pytest.raises(OSError, match="address already in use") as raised:
            await loop.create_server(Echo, "127.0.0.1", port_of(server))
        assert await ask("127.0.0.1", port_of(server)) == b"question"
        await end(server)
        return raised.value

    error = run(make_loop, main)
    assert error.errno == errno.EADDRINUSE
    assert "error while attempting to bind on address ('127.0.0.1'," in str(error)


def test_a_ready_made_socket(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(Echo, sock=sock)
        assert await ask("127.0.0.1", port_of(server)) == b"question"
        await end(server)
        assert sock.fileno() == -1

    run(make_loop, main)


def test_arguments_that_contradict(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                await call_wrongly(loop.create_server, Echo, "127.0.0.1", 0, sock=stream)
            with pytest.raises(ValueError, match="Neither host/port nor sock were specified"):
                await call_wrongly(loop.create_server, Echo)
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.create_server(Echo, sock=datagrams)
            with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
                await loop.create_server(Echo, "127.0.0.1", 0, ssl=True)
            with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
                await loop.create_server(Echo, "127.0.0.1", 0, ssl_handshake_timeout=1)

    run(make_loop, main)


def test_a_server_that_is_started_later(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        port = port_of(server)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        assert await ask("127.0.0.1", port) == b"question"
        await end(server)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(make_loop, main)


def test_serving_for_ever_ends_by_cancellation(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
        port = port_of(server)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0.01)
        assert await ask("127.0.0.1", port) == b"question"
        with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
            await server.serve_forever()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    run(make_loop, main)


@pytest.mark.parametrize("abort", [False, True])
def test_the_clients_of_a_server_can_be_ended(abort: bool) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> list[bytes]:
        assert isinstance(loop, motet.EventLoop)
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        clients = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(5)]
        for _, writer in clients:
            writer.write(b"x")
        for reader, _ in clients:
            await reader.readexactly(1)
        server.close()
        if abort:
            server.abort_clients()
        else:
            server.close_clients()
        await server.wait_closed()
        ends = [await reader.read() for reader, _ in clients]
        for _, writer in clients:
            writer.close()
            await writer.wait_closed()
        return ends

    assert run(motet.new_event_loop, main) == [b""] * 5


@pytest.mark.parametrize("end_clients", ["close_clients", "abort_clients"])
def test_clients_can_be_ended_as_they_come(end_clients: str) -> None:
    """A connection is its server's before its protocol is told of it."""
    made: list[asyncio.BaseTransport] = []

    class Ending(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            getattr(server, end_clients)()

    async def main(loop: asyncio.AbstractEventLoop) -> bytes:
        nonlocal server
        assert isinstance(loop, motet.EventLoop)
        server = await loop.create_server(Ending, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            await end(server)

    server: asyncio.Server
    assert run(motet.new_event_loop, main) == b""
    assert [transport.is_closing() for transport in made] == [True]


def test_closing_a_server_leaves_its_connections(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        server.close()
        server.close()
        writer.write(b"afterwards")
        assert await reader.readexactly(10) == b"afterwards"
        writer.close()
        await writer.wait_closed()
        await server.wait_closed()

    run(make_loop, main)


def test_a_burst_of_connections_is_accepted() -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=128)
        answers = await asyncio.gather(*(ask("127.0.0.1", port_of(server)) for _ in range(100)))
        assert answers == [b"question"] * 100
        await end(server)

    run(motet.new_event_loop, main)


def test_more_than_one_poll_accepts_all_that_wait() -> None:
    """A server accepts at most as many connections at once as its backlog; none of the rest is forgotten."""

    async def main(loop: asyncio.AbstractEventLoop) -> int:
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        made: list[asyncio.Protocol] = []

        def make() -> asyncio.Protocol:
            made.append(Echo())
            return made[-1]

        clients = [socket.create_connection(listening.getsockname()) for _ in range(40)]
        server = await loop.create_server(make, sock=listening, backlog=3)
        await asyncio.sleep(0.05)
        for client in clients:
            client.close()
        await asyncio.sleep(0.05)
        await end(server)
        return len(made)

    assert run(motet.new_event_loop, main) == 40
