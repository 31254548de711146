"""An echo server for any event loop in the styles that programs use; prints its port, serves until killed.

A style that the loop does not offer ends it with status 69 (`EX_UNAVAILABLE`) and the reason.

No style uses `serve_forever`: with rloop it never listens. The socket is made here, with a long backlog, so
that 1,024 clients that arrive at once measure the loop and not the queue of the kernel.
"""

import argparse
import asyncio
import importlib
import os
import resource
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from harness import loops, settings

BACKLOG = 4096
READ_SIZE = 64 * 1024
DATAGRAMS = "datagrams"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Start = Callable[..., Awaitable[asyncio.AbstractServer]]


class Echo(asyncio.Protocol):
    """Writes back whatever arrives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; it is the one of `create_server`, which can write."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Echo one piece."""
        self.transport.write(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Echo one datagram."""
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection through asyncio's streams."""
    try:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection: one line in, one line out."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def echo_socket(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Serve one connection through the loop's socket methods."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := await loop.sock_recv(connection, READ_SIZE):
                await loop.sock_sendall(connection, data)
        except ConnectionError:
            pass


async def serve_protocol(listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
    """Serve with `create_server` and a protocol, through TLS if there is a context."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listener, backlog=BACKLOG, ssl=context)
    await _for_ever(server)


def _context() -> ssl.SSLContext:
    """Return a context with the certificate that the harness has made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(os.environ[settings.CERTIFICATE])
    return context


async def serve_streams(
    listener: socket.socket, serve: Serve = echo_stream, start: Start = asyncio.start_server
) -> None:
    """Serve with `asyncio.start_server`, or with the loop's own in its place."""
    server = await start(serve, sock=listener, backlog=BACKLOG)
    await _for_ever(server)


async def serve_native(listener: socket.socket, serve: Serve) -> None:
    """Serve with the streams that the loop brings: motet's own on motet, the stock ones on the others."""
    start: Start = asyncio.start_server
    if type(asyncio.get_running_loop()).__module__.partition(".")[0] == loops.MOTET:
        try:
            start = importlib.import_module(loops.MOTET).start_server
        except AttributeError:
            raise NotImplementedError("this motet has no streams of its own") from None
    await serve_streams(listener, serve, start)


async def serve_sock(listener: socket.socket) -> None:
    """Serve with `sock_accept`, `sock_recv` and `sock_sendall`."""
    loop = asyncio.get_running_loop()
    serving: set[asyncio.Task[None]] = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        task = loop.create_task(echo_socket(loop, connection))
        serving.add(task)
        task.add_done_callback(serving.discard)


async def serve_datagrams(endpoint: socket.socket) -> None:
    """Serve with `create_datagram_endpoint`."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(EchoDatagrams, sock=endpoint)
    await loop.create_future()


async def _for_ever(server: asyncio.AbstractServer) -> None:
    await asyncio.get_running_loop().create_future()
    server.close()


STYLES: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    "protocol": serve_protocol,
    "streams": serve_streams,
    "sock": serve_sock,
    DATAGRAMS: serve_datagrams,
    "tls": serve_protocol,
    "native-streams": partial(serve_native, serve=echo_stream),
    "readline": partial(serve_native, serve=echo_lines),
}


async def main(style: str, listener: socket.socket) -> None:
    """Serve on a listening socket in the named style; the port is told once the loop runs."""
    serve = STYLES[style]
    if style == "tls":
        # Before the port is told: whoever reads it may count this process's descriptors.
        serve = partial(serve_protocol, context=_context())
    print(listener.getsockname()[1], flush=True)
    await serve(listener)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", choices=loops.LOOPS, required=True)
    parser.add_argument("--style", choices=tuple(STYLES), required=True)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--cpu", type=int, help="run on this processor only")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    if arguments.style == DATAGRAMS:
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("127.0.0.1", arguments.port))
    else:
        listening = socket.create_server(("127.0.0.1", arguments.port), backlog=BACKLOG)
    listening.setblocking(False)
    try:
        loops.new_event_loop(arguments.loop).run_until_complete(main(arguments.style, listening))
    except NotImplementedError as error:
        print(f"{error}" or f"{arguments.loop} does not implement it", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
