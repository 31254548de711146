"""An echo server for any event loop in the styles that programs use; prints its port, serves until killed.

No style uses `serve_forever`: with rloop it never listens. The socket is made here, with a long backlog, so
that 1,024 clients that arrive at once measure the loop and not the queue of the kernel.
"""

import argparse
import asyncio
import importlib
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from harness import loops

BACKLOG = 4096
READ_SIZE = 64 * 1024

Echoing: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Echo(asyncio.Protocol):
    """Writes back whatever arrives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; it is the one of `create_server`, which can write."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Echo one piece."""
        self.transport.write(data)


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
    """Serve one connection line by line."""
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


async def serve_protocol(listener: socket.socket) -> None:
    """Serve with `create_server` and a protocol."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, sock=listener, backlog=BACKLOG)
    await _for_ever(server)


async def serve_streams(listener: socket.socket) -> None:
    """Serve with `asyncio.start_server`."""
    server = await asyncio.start_server(echo_stream, sock=listener, backlog=BACKLOG)
    await _for_ever(server)


async def serve_native_streams(listener: socket.socket) -> None:
    """Serve with `motet.start_server`; other loops have asyncio's streams only."""
    server = await _start_native_server(echo_stream, listener)
    await _for_ever(server)


async def serve_lines(listener: socket.socket) -> None:
    """Serve lines, with native streams on motet."""
    server = await _start_native_server(echo_lines, listener)
    await _for_ever(server)


async def _start_native_server(echo: Echoing, listener: socket.socket) -> asyncio.Server:
    module = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    streams: Any = importlib.import_module(module) if module == loops.MOTET else asyncio
    server: asyncio.Server = await streams.start_server(echo, sock=listener, backlog=BACKLOG)
    return server


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


async def _for_ever(server: asyncio.AbstractServer) -> None:
    await asyncio.get_running_loop().create_future()
    server.close()


STYLES: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    "protocol": serve_protocol,
    "streams": serve_streams,
    "native-streams": serve_native_streams,
    "readline": serve_lines,
    "sock": serve_sock,
}


async def main(style: str, listener: socket.socket) -> None:
    """Serve on a listening socket in the named style; the port is told once the loop runs."""
    print(listener.getsockname()[1], flush=True)
    await STYLES[style](listener)


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
    listening = socket.create_server(("127.0.0.1", arguments.port), backlog=BACKLOG)
    listening.setblocking(False)
    loops.new_event_loop(arguments.loop).run_until_complete(main(arguments.style, listening))
