"""A transport as an object: its class, information, ownership of the socket, and forgotten ones."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import weakref
from contextlib import closing, suppress

import motet
import pytest
from conftest import MakeLoop


async def connect(sock: socket.socket) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=sock)
    return transport


async def end(transport: asyncio.BaseTransport) -> None:
    transport.close()
    await asyncio.sleep(0.01)


def test_it_is_a_real_transport() -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        with there:
            transport = await connect(here)
            assert isinstance(transport, motet.SocketTransport)
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert weakref.ref(transport)() is transport
            assert f"fd={here.fileno()}" in repr(transport)
            await end(transport)
            assert "closed" in repr(transport)

    motet.run(main())


def test_information_of_a_connection_that_was_made(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            transport, _ = await loop.create_connection(asyncio.Protocol, *listening.getsockname())
            sock = transport.get_extra_info("socket")
            assert sock.type == socket.SOCK_STREAM
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            sockname = sock.getsockname()
            for _ in ("open", "closed"):
                assert transport.get_extra_info("peername") == listening.getsockname()
                assert transport.get_extra_info("sockname") == sockname
                assert transport.get_extra_info("unknown") is None
                assert transport.get_extra_info("unknown", default=1) == 1
                await end(transport)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("ask_early", [False, True])
def test_information_of_a_connection_that_was_accepted(make_loop: MakeLoop, ask_early: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[asyncio.BaseTransport] = []

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append(transport)

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        await asyncio.sleep(0.02)
        (transport,) = accepted
        if ask_early:
            assert transport.get_extra_info("socket").getpeername() == client.getsockname()
        await end(transport)
        assert transport.get_extra_info("peername") == client.getsockname()
        assert transport.get_extra_info("sockname") == client.getpeername()
        client.close()
        server.close()

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_a_socket_that_is_taken_out_and_dropped_stays_open() -> None:
    async def main() -> bytes:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            transport = await connect(here)
            sock = transport.get_extra_info("socket")
            del sock, here
            gc.collect()
            transport.write(b"data")
            data = await asyncio.get_running_loop().sock_recv(there, 10)
            await end(transport)
            return data

    assert motet.run(main()) == b"data"


def reuse(number: int) -> tuple[list[socket.socket], bool]:
    """New sockets, and whether one of them has got a number."""
    sockets = [sock for _ in range(4) for sock in socket.socketpair()]
    for sock in sockets:
        sock.setblocking(False)
    return sockets, number in [sock.fileno() for sock in sockets]


@pytest.mark.thread_unsafe(reason="closes descriptors and reuses their numbers")
@pytest.mark.parametrize("how", ["close", "detach"])
def test_a_socket_ended_under_its_transport_harms_no_stranger(how: str) -> None:
    """The program closes the socket object that it gave to the transport; other sockets take the number."""

    async def main() -> list[bytes]:
        here, there = socket.socketpair()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        transport = await connect(here)
        number = here.fileno()
        if how == "close":
            here.close()
        else:
            os.close(here.detach())
        strangers, reused = reuse(number)
        assert reused or how == "close"
        transport.write(b"secret")
        transport.write(b"secret")
        await asyncio.sleep(0.01)
        transport.abort()
        await asyncio.sleep(0.01)
        leaked = []
        for stranger in strangers:
            # Fails if the transport has closed it.
            os.fstat(stranger.fileno())
            with suppress(BlockingIOError):
                leaked.append(stranger.recv(100))
        for sock in (*strangers, there):
            sock.close()
        return leaked

    assert motet.run(main()) == []


def test_a_closed_socket_makes_no_transport(make_loop: MakeLoop) -> None:
    here, there = socket.socketpair()
    here.close()
    there.close()
    with closing(make_loop()) as loop, pytest.raises((OSError, ValueError)):
        loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=here))


def test_a_forgotten_transport_warns_and_closes() -> None:
    def forget() -> socket.socket:
        here, there = socket.socketpair()
        there.settimeout(30)
        with closing(motet.new_event_loop()) as loop:
            loop.run_until_complete(connect(here))
        gc.collect()
        return there

    with pytest.warns(ResourceWarning, match="unclosed transport"):
        there = forget()
    with there:
        assert there.recv(1) == b""


def test_an_open_connection_is_kept_alive_by_its_loop() -> None:
    async def main() -> bytes:
        here, there = socket.socketpair()
        there.setblocking(False)

        class Answering(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data.upper())
                self.transport.close()

        await asyncio.get_running_loop().create_connection(Answering, sock=here)
        del here
        gc.collect()
        there.send(b"question")
        await asyncio.sleep(0.02)
        with there:
            return there.recv(100)

    assert motet.run(main()) == b"QUESTION"


def test_a_closed_connection_is_let_go() -> None:
    async def main() -> tuple[object, object]:
        here, there = socket.socketpair()
        with there:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sock=here
            )
            references = weakref.ref(transport), weakref.ref(protocol)
            await end(transport)
        del transport, protocol
        gc.collect()
        return references[0](), references[1]()

    assert motet.run(main()) == (None, None)


def test_closing_twice_and_in_any_order(make_loop: MakeLoop) -> None:
    async def main() -> list[Exception | None]:
        ends: list[Exception | None] = []

        class Counting(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                ends.append(error)

        for steps in (["close", "close"], ["close", "abort"], ["abort", "close"], ["abort", "abort"]):
            here, there = socket.socketpair()
            with there:
                transport, _ = await asyncio.get_running_loop().create_connection(Counting, sock=here)
                for step in steps:
                    getattr(transport, step)()
                await asyncio.sleep(0.01)
                transport.close()
                transport.abort()
        return ends

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == [None] * 4
