"""TLS connections that are cut, broken, reset, paused and closed at random: none hangs, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import ssl
import struct
from contextlib import closing
from typing import Any

import motet
import pytest
from tls_helpers import Keeper, Peer, client_context, server_context

ROUNDS = 150
RESET = struct.pack("ii", 1, 0)


class Moody(Keeper):
    """A protocol that does what comes to its mind when it is told something."""

    def __init__(self, luck: random.Random) -> None:
        super().__init__()
        self.luck = luck

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        transport, luck = self.transport, self.luck.random()
        if luck < 0.3:
            transport.write(data)
        elif luck < 0.4:
            transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, transport.resume_reading)
        elif luck < 0.45:
            transport.close()
        elif luck < 0.5:
            transport.abort()
        elif luck < 0.6:
            transport.write(b"x" * 100_000)
        elif luck < 0.65:
            transport.write(b"last")
            transport.close()


async def trouble(peer: Peer, luck: random.Random) -> None:
    """Talks to the server until something is wrong, and makes sure that it will be."""
    loop = asyncio.get_running_loop()
    if luck.random() < 0.1:
        peer.sock.send(luck.randbytes(50))
        return
    await peer.handshake()
    for _ in range(luck.randrange(20)):
        peer.tls.write(luck.randbytes(luck.choice([1, 100, 20_000])))
        records = bytearray(peer.outgoing.read())
        mischief = luck.random()
        if mischief < 0.05:
            records[luck.randrange(len(records))] ^= 0x80
        elif mischief < 0.1:
            del records[luck.randrange(len(records)) :]
            await loop.sock_sendall(peer.sock, records)
            return
        while records:
            size = luck.choice([1, 7, 1000, 100_000])
            await loop.sock_sendall(peer.sock, records[:size])
            del records[:size]
            if luck.random() < 0.01:
                await asyncio.sleep(0)
        if luck.random() < 0.5:
            await peer.call(peer.tls.read, 100_000)
    if luck.random() < 0.5:
        await peer.call(peer.tls.unwrap)


@pytest.mark.parametrize("way", ["native", "memory-bio"])
def test_a_storm(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("MOTET_TLS", way)
    luck = random.Random(8)
    heard: list[dict[str, Any]] = []
    keepers: list[Moody] = []

    async def attack(address: tuple[str, int], context: ssl.SSLContext) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
            try:
                async with asyncio.timeout(luck.choice([0.001, 0.01, 0.1])):
                    await trouble(Peer(sock, context, server_side=False), luck)
            except (OSError, TimeoutError):
                pass
            if luck.random() < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: heard.append(details))

        def factory() -> Moody:
            keepers.append(Moody(luck))
            return keepers[-1]

        server = await loop.create_server(
            factory, "127.0.0.1", 0, ssl=server_context(), ssl_shutdown_timeout=0.5, ssl_handshake_timeout=0.5
        )
        address, context = server.sockets[0].getsockname(), client_context()
        for _ in range(ROUNDS // 10):
            async with asyncio.timeout(60):
                await asyncio.gather(*(attack(address, context) for _ in range(10)))
        server.close()
        async with asyncio.timeout(60):
            for keeper in keepers:
                if "made" in keeper.events:
                    await keeper.lost
            await server.wait_closed()

    with closing(motet.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        loop.run_until_complete(main())
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
        for keeper in keepers:
            assert keeper.events.count("lost") == keeper.events.count("made") <= 1
    assert heard == []
