"""`start_tls`: from plain connections to TLS, in both directions, and TLS within TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import motet
import pytest
from conftest import MakeLoop
from tls_helpers import Keeper, Peer, client_context, pair, run, server_context


async def plain_pair() -> tuple[Keeper, Keeper]:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    _, here = await loop.create_unix_connection(Keeper, sock=near)
    _, there = await loop.create_unix_connection(Keeper, sock=far)
    return there, here


async def upgrade(there: Keeper, here: Keeper) -> None:
    """Goes over to TLS at both ends at once."""
    loop = asyncio.get_running_loop()
    server, client = await asyncio.gather(
        loop.start_tls(there.transport, there, server_context(), server_side=True),
        loop.start_tls(here.transport, here, client_context(), server_hostname="localhost"),
    )
    assert server is not None
    assert client is not None
    there.transport, here.transport = server, client


async def end(*keepers: Keeper) -> None:
    for keeper in keepers:
        keeper.transport.close()
    for keeper in keepers:
        assert await keeper.lost is None
        assert keeper.events == ["made", "end", "lost"]


def test_a_connection_goes_over_to_tls(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        there, here = await plain_pair()
        there.transport.write(b"ready?")
        await here.received(6)
        await upgrade(there, here)
        assert here.transport.get_extra_info("cipher")
        assert here.transport.get_protocol() is here
        here.transport.write(b"secret")
        assert await there.received(6) == b"secret"
        await end(there, here)

    run(make_tls_loop, main)


def test_tls_within_tls(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            outer = here.transport
            await upgrade(there, here)
            assert here.transport is not outer
            message = bytes(range(256)) * 1000
            here.transport.write(message)
            there.transport.write(message)
            assert await there.received(len(message)) == message
            assert await here.received(len(message)) == message
            here.transport.close()
            assert await here.lost is None
            assert await there.lost is None

    run(make_tls_loop, main)


def test_streams_go_over_to_tls(make_tls_loop: MakeLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.start_tls(server_context())
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        near, far = socket.socketpair()
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving = asyncio.ensure_future(serve(reader, writer))
            serving.add_done_callback(lambda _: accepted.set_result(serving.result()))

        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader, accept), far)
        reader, writer = await asyncio.open_unix_connection(sock=near)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"OK\n"
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"you said hello\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await accepted

    run(make_tls_loop, main)


def test_a_client_may_speak_tls_before_the_server_has_asked_for_it() -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        answered = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            while not reader._buffer:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await writer.start_tls(server_context())
            writer.close()
            await writer.wait_closed()
            answered.set_result(None)

        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader, serve), far
        )
        peer = Peer(near, client_context(), server_side=False)
        await asyncio.get_running_loop().sock_sendall(near, b"STARTTLS\n")
        await peer.handshake()
        assert await peer.call(peer.tls.read, 1) == b""
        await peer.call(peer.tls.unwrap)
        await answered
        near.close()

    run(motet.new_event_loop, main)


def test_a_closed_connection_does_not_go_over_to_tls() -> None:
    async def main() -> None:
        there, here = await plain_pair()
        here.transport.abort()
        await here.lost
        with pytest.raises(ConnectionResetError, match="the connection was closed before TLS could begin"):
            await asyncio.get_running_loop().start_tls(here.transport, here, client_context())
        await there.lost

    run(motet.new_event_loop, main)


@pytest.mark.parametrize("how", ["refused", "cancelled"])
def test_a_change_that_fails_ends_the_connection(make_tls_loop: MakeLoop, how: str) -> None:
    async def main() -> None:
        there, here = await plain_pair()
        changing = asyncio.ensure_future(
            asyncio.get_running_loop().start_tls(
                here.transport, here, client_context(), server_hostname="localhost"
            )
        )
        expected: Any = asyncio.CancelledError
        if how == "refused":
            there.transport.write(b"what do you mean?\n")
            expected = ssl.SSLError
        else:
            await there.received(1)
            changing.cancel()
        with pytest.raises(expected):
            await changing
        await there.lost
        assert here.transport.is_closing()

    run(make_tls_loop, main)


def test_arguments_are_checked(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        there, here = await plain_pair()
        with pytest.raises(TypeError, match="sslcontext is expected to be an instance of"):
            await loop.start_tls(here.transport, here, "context")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"transport .* is not supported by start_tls\(\)"):
            await loop.start_tls(asyncio.WriteTransport(), here, client_context())
        with pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number"):
            await loop.start_tls(here.transport, here, client_context(), ssl_handshake_timeout=0)
        for keeper in (there, here):
            keeper.transport.close()
            await keeper.lost

    run(make_tls_loop, main)
