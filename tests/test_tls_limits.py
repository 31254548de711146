"""Limits of a TLS connection: what it keeps for a protocol that reads nothing, how long it waits."""

from __future__ import annotations

import asyncio
import socket

import pytest
from conftest import MakeLoop
from tls_helpers import Keeper, Peer, client_context, in_hand, run, server_context

MUCH = 4 * 1024 * 1024
RECORD = 16 * 1024

pytestmark = pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)


async def send_what_fits(peer: Peer, most: int) -> bytes:
    """Sends records until the other side takes no more of them, or until so much is sent."""
    sent = b""
    waiting = b""
    in_vain = 0
    while in_vain < 50 and len(sent) < most:
        if not waiting:
            plaintext = bytes([len(sent) // RECORD % 256]) * RECORD
            peer.tls.write(plaintext)
            waiting = peer.outgoing.read()
            sent += plaintext
        try:
            waiting = waiting[peer.sock.send(waiting) :]
            in_vain = 0
        except BlockingIOError:
            in_vain += 1
            await asyncio.sleep(0.001)
    peer.outgoing.write(waiting)
    return sent


def test_a_paused_protocol_that_closes_holds_its_peer_back(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            keeper.transport.write(b"x" * MUCH)
            keeper.transport.close()
            keeper.transport.pause_reading()
            sent = await send_what_fits(peer, 2 * MUCH)
            assert len(sent) < MUCH
            assert not keeper.data
            keeper.transport.resume_reading()
            await peer.send()
            assert await keeper.received(len(sent)) == sent
            assert await peer.read(MUCH) == b"x" * MUCH
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None

    run(make_tls_loop, main)


def test_an_end_that_is_heard_although_reading_is_paused(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            keeper.transport.write(b"x" * MUCH)
            keeper.transport.close()
            keeper.transport.pause_reading()
            assert await peer.read(MUCH) == b"x" * MUCH
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None

    run(make_tls_loop, main)


def test_a_peer_that_half_closes_and_takes_nothing_is_not_waited_for_for_ever(
    make_tls_loop: MakeLoop,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        peer = Peer(far, server_context(), server_side=True)
        with far:
            shaking = asyncio.ensure_future(peer.handshake())
            _, keeper = await loop.create_unix_connection(
                Keeper,
                sock=near,
                ssl=client_context(),
                server_hostname="localhost",
                ssl_shutdown_timeout=0.05,
            )
            await shaking
            keeper.transport.write(b"x" * MUCH)
            far.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.1)
            assert keeper.events == ["made", "pause"]
            keeper.transport.close()
            error = await asyncio.wait_for(keeper.lost, 10)
            assert isinstance(error, TimeoutError)

    run(make_tls_loop, main)
