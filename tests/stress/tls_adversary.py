"""The client's side of the TLS fuzz: speaks TLS over a bare socket, and damages some of what it sends.

TLS is done over memory, so that each byte that goes out can be held back, repeated or changed on its way.
"""

from __future__ import annotations

import asyncio
import functools
import random
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")

APPLICATION_DATA = 23
HANDSHAKE = 22
# A record may be 16 KiB of data and what ciphers add, at most 2 KiB.
TOO_LONG = 0x4801


class Gone(Exception):
    """The server has ended the connection, or this side has."""


def record(kind: int, content: bytes, length: int | None = None) -> bytes:
    """A record without encryption; `length` is the one that it claims to have."""
    return struct.pack(">BHH", kind, 0x0303, len(content) if length is None else length) + content


def forget_openssl_errors() -> None:
    """Empties this thread's queue of errors, as each exception of `ssl` does.

    `unwrap()` takes a fatal alert for the peer's end, and leaves the alert's error to the thread's next call,
    on whatever connection.
    """
    with suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=b"no certificate")


class Adversary:
    """A TLS client; `damage` is how probable it is that it damages a piece."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, name: str, generator: random.Random, damage: float
    ) -> None:
        self.sock = sock
        self.generator = generator
        self.damage = damage
        self.damaged = False
        # How often it looks for an answer in vain once it has damaged something.
        self.patience = 50
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    async def handshake(self) -> None:
        await self.drive(self.tls.do_handshake)

    async def send(self, data: bytes) -> None:
        while data:
            count = await self.drive(functools.partial(self.tls.write, data))
            data = data[count:]

    async def read(self) -> bytes:
        return await self.drive(lambda: self.tls.read(100_000))

    async def end(self) -> None:
        """Says that nothing follows, and hears the same."""
        await self.drive(self.unwrap)

    def unwrap(self) -> None:
        # At once, before another connection's turn.
        try:
            self.tls.unwrap()
        finally:
            forget_openssl_errors()

    async def drive(self, step: Callable[[], _Result]) -> _Result:
        """Carries out a step of TLS, with the input and output that it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.receive()
            except ssl.SSLError:
                await self.flush()
                raise
            else:
                await self.flush()
                return result

    async def receive(self) -> None:
        while True:
            try:
                data = self.sock.recv(self.generator.choice([1, 500, 65_536]))
            except BlockingIOError:
                await asyncio.sleep(0.0005)
                self.patience -= self.damaged
                # The server may rightly wait for what was lost.
                if not self.patience:
                    raise Gone from None
            else:
                if not data:
                    raise Gone
                self.incoming.write(data)
                return

    async def flush(self) -> None:
        data = self.outgoing.read()
        if data and self.generator.random() < self.damage:
            self.damaged = True
            data = self.damage_it(data)
        await self.send_bytes(data)
        if self.damaged and self.generator.random() < 0.3:
            self.sock.shutdown(socket.SHUT_WR)

    async def send_bytes(self, data: bytes) -> None:
        """Sends as it is, in random fragments."""
        while data:
            size = self.generator.choice([1, 3, 6, 200, 20_000, 20_000])
            try:
                count = self.sock.send(data[:size])
            except BlockingIOError:
                count = 0
            data = data[count:]
            if self.generator.random() < 0.3 or not count:
                await asyncio.sleep(0)

    def damage_it(self, data: bytes) -> bytes:
        place = self.generator.randrange(len(data))
        before, after = data[:place], data[place:]
        noise = self.generator.randbytes(self.generator.choice([1, 5, 3000]))
        return self.generator.choice(
            [
                # Changed, lost, repeated, cut off, or between others.
                before + bytes([after[0] ^ 1 << self.generator.randrange(8)]) + after[1:],
                before + after[1:],
                data + data,
                before,
                before + noise + after,
                data + noise,
                # Records of their own: too long, empty, without encryption, of no kind.
                record(APPLICATION_DATA, noise, TOO_LONG) + data,
                data + record(APPLICATION_DATA, bytes(TOO_LONG)),
                data + record(APPLICATION_DATA, b""),
                data + record(HANDSHAKE, b"\x01\x00\x00\x02\x03\x03"),
                data + record(99, noise),
            ]
        )
