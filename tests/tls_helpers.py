"""What the tests of TLS share: certificates, contexts, protocols that keep what happens, a peer in hand.

The certificates hold for a hundred years, for `localhost`; the key of the authority that signed them is gone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")
SERVER = str(CERTIFICATES / "server.pem")
CLIENT = str(CERTIFICATES / "client.pem")
LIMIT = 60


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=AUTHORITY)
    context.load_cert_chain(SERVER)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=AUTHORITY)


class Keeper(asyncio.Protocol):
    """Keeps what it is told."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.changed = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._keep("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> None:
        self._keep("end")

    def pause_writing(self) -> None:
        self._keep("pause")

    def resume_writing(self) -> None:
        self._keep("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self._keep("lost")
        if not self.lost.done():
            self.lost.set_result(error)

    def _keep(self, event: str) -> None:
        self.events.append(event)
        self.changed.set()

    async def received(self, count: int) -> bytes:
        """Waits until so many bytes are there."""
        return await self.until(lambda: len(self.data) >= count)

    async def happened(self, event: str) -> None:
        """Waits until it was told of `event`."""
        await self.until(lambda: event in self.events)

    async def until(self, condition: Callable[[], bool]) -> bytes:
        while not condition():
            self.changed.clear()
            await self.changed.wait()
        return bytes(self.data)


class BufferKeeper(asyncio.BufferedProtocol, Keeper):  # type: ignore[misc]
    """As `Keeper`, with a small buffer of its own."""

    def __init__(self, size: int = 100) -> None:
        Keeper.__init__(self)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


class Peer:
    """The other end of a connection, in hand: every record of it can be looked at, changed or kept back."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hostname = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, hostname)
        self.raw_received = bytearray()

    async def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a method of the TLS object, as often as it takes, and moves the bytes."""
        while True:
            try:
                result = method(*arguments)
            except ssl.SSLWantReadError:
                await self.send()
                await self.receive()
            else:
                await self.send()
                return result

    async def send(self) -> None:
        """Sends what waits."""
        if self.outgoing.pending:
            await asyncio.get_running_loop().sock_sendall(self.sock, self.outgoing.read())

    async def receive(self) -> None:
        """Receives at least one byte, or the end."""
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        self.raw_received += data
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def handshake(self) -> None:
        await self.call(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        await self.call(self.tls.write, data)

    async def read(self, count: int) -> bytes:
        """Reads exactly so many bytes."""
        received = b""
        while len(received) < count:
            part = await self.call(self.tls.read, count - len(received))
            if not part:
                raise ConnectionError(f"the end came after {len(received)} bytes")
            received += part
        return received


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Callable[[], Awaitable[Any]]) -> Any:
    with closing(make_loop()) as loop:
        return loop.run_until_complete(asyncio.wait_for(body(), LIMIT))


@asynccontextmanager
async def pair(
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    make: Callable[[], Keeper] = Keeper,
) -> AsyncIterator[tuple[Keeper, Keeper]]:
    """A connection over TCP with both ends on the loop: the server's protocol and the client's."""
    loop = asyncio.get_running_loop()
    made: list[Keeper] = []

    def factory() -> Keeper:
        made.append(make())
        return made[-1]

    listening = await loop.create_server(factory, "127.0.0.1", 0, ssl=server or server_context())
    port = listening.sockets[0].getsockname()[1]
    _, here = await loop.create_connection(
        make, "127.0.0.1", port, ssl=client or client_context(), server_hostname="localhost"
    )
    there = made[0]
    await there.happened("made")
    try:
        yield there, here
    finally:
        for protocol in (there, here):
            protocol.transport.abort()
            await protocol.lost
        listening.close()
        await listening.wait_closed()


@asynccontextmanager
async def in_hand(
    context: ssl.SSLContext | None = None, make: Callable[[], Keeper] = Keeper
) -> AsyncIterator[tuple[Keeper, Peer]]:
    """A client on the loop and its server in the test's hand."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    peer = Peer(far, context or server_context(), server_side=True)
    with far:
        shaking = asyncio.ensure_future(peer.handshake())
        _, keeper = await loop.create_unix_connection(
            make, sock=near, ssl=client_context(), server_hostname="localhost"
        )
        await shaking
        try:
            yield keeper, peer
        finally:
            keeper.transport.abort()
            await keeper.lost
