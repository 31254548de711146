"""Servers and Unix connections: `create_server`, `create_unix_server`, `create_unix_connection`."""

import asyncio
import errno
import itertools
import os
import socket
import stat
import sys
import weakref
from asyncio import base_events
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from . import _tls
from ._base import LoopBase

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class _Connections:
    """How many connections a server has; which ones, the loop's own books tell.

    In place of asyncio's set of weak references, which would cost each connection half as much again.
    """

    def __init__(self, server: "Server") -> None:
        self._server = weakref.ref(server)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, _: asyncio.Transport) -> None:
        """Counts a connection, once."""
        self._count += 1

    def discard(self, _: asyncio.Transport) -> None:
        """Counts it no more, once."""
        self._count -= 1

    def copy(self) -> list[asyncio.Transport]:
        """The connections that are open."""
        server = self._server()
        return [] if server is None else _connections_of(server)


def _connections_of(server: "Server") -> list[asyncio.Transport]:
    loop: Any = server.get_loop()
    connections: list[asyncio.Transport] = loop._transports_of(server)
    return connections


class Server(base_events.Server):
    """A server of motet's loop: `asyncio.Server`, with `close_clients` and `abort_clients` on any Python."""

    if sys.version_info >= (3, 13):

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._clients = _Connections(self)

    else:

        def _attach(self, transport: asyncio.Transport) -> None:
            super()._attach()  # type: ignore[misc]

        def _detach(self, transport: asyncio.Transport) -> None:
            super()._detach()  # type: ignore[misc]

        def close_clients(self) -> None:
            """Closes every connection that the server has accepted, after sending what is queued."""
            for transport in _connections_of(self):
                transport.close()

        def abort_clients(self) -> None:
            """Closes every connection that the server has accepted, at once."""
            for transport in _connections_of(self):
                transport.abort()


class ServerMethods(LoopBase):
    """The server side of an event loop, and Unix connections."""

    _unix_paths: dict[socket.socket, tuple[str, int]]

    def _start_serving(
        self,
        protocol_factory: _ProtocolFactory,
        sock: socket.socket,
        sslcontext: Any = None,
        server: Server | None = None,
        backlog: int = 100,
        *timeouts: float | None,
    ) -> None:
        if sslcontext is not None:
            protocol_factory = self._over_tls(protocol_factory, sslcontext, *timeouts)
        self._start_listening(protocol_factory, sock, server, backlog)

    def _stop_serving(self, sock: socket.socket) -> None:
        self._stop_listening(sock.fileno())
        sock.close()
        bound = self._unix_paths.pop(sock, None)
        if bound is not None:
            _remove_own_path(*bound)

    async def create_server(
        self,
        protocol_factory: _ProtocolFactory,
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Makes a TCP server; as `asyncio`'s method of this name."""
        _check_server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            addresses = await self._server_addresses(host, port, family, flags)
            reuse_address = os.name == "posix" if reuse_address is None else reuse_address
            sockets = _bind_all(addresses, reuse_address, reuse_port, keep_alive)
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        else:
            sockets = [sock]
        tls = ssl, ssl_handshake_timeout, ssl_shutdown_timeout
        return await self._serve(protocol_factory, sockets, backlog, tls, start_serving)

    async def _server_addresses(
        self, host: str | Sequence[str] | None, port: int | str | None, family: int, flags: int
    ) -> list[tuple[Any, ...]]:
        if host == "":
            hosts: Iterable[str | None] = [None]
        elif host is None or isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *(self._create_server_getaddrinfo(one, port, family=family, flags=flags) for one in hosts)
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    async def _serve(
        self,
        protocol_factory: _ProtocolFactory,
        sockets: list[socket.socket],
        backlog: int,
        tls: tuple[Any, float | None, float | None],
        start: bool,
    ) -> Server:
        for sock in sockets:
            sock.setblocking(False)
        context, *timeouts = tls
        server = Server(self, sockets, protocol_factory, context or None, backlog, *timeouts)
        if start:
            server._start_serving()  # type: ignore[attr-defined]
            # As asyncio: the first connections are accepted before this returns.
            await asyncio.sleep(0)
        return server

    async def create_unix_server(
        self,
        protocol_factory: _ProtocolFactory,
        path: str | bytes | os.PathLike[str] | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = sys.version_info >= (3, 13),
    ) -> Server:
        """Makes a server on a Unix socket.

        `cleanup_socket` removes the path when the server is closed; the default is that of the interpreter's
        asyncio: from Python 3.13 on.
        """
        _check_server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind_unix(os.fspath(path))
        elif sock is None:
            raise ValueError("path was not specified, and no sock specified")
        elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
        if cleanup_socket:
            name = sock.getsockname()
            # Names in the abstract namespace begin with a null and need no cleaning.
            if name and name[0] not in (0, "\x00"):
                self._unix_paths[sock] = name, os.stat(name).st_ino
        tls = ssl, ssl_handshake_timeout, ssl_shutdown_timeout
        return await self._serve(protocol_factory, [sock], backlog, tls, start_serving)

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _Protocol],
        path: str | bytes | os.PathLike[str] | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _Protocol]:
        """Connects to a Unix socket; as `asyncio`'s method of this name."""
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            raise ValueError("you have to pass server_hostname when using ssl")
        _tls.check_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
            try:
                sock.setblocking(False)
                await self.sock_connect(sock, os.fspath(path))
            except BaseException:
                sock.close()
                raise
        elif sock is None:
            raise ValueError("no path and sock were specified")
        elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
        else:
            sock.setblocking(False)
        return await self._create_connection_transport(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )


def _check_server_tls(ssl: Any, handshake: float | None, shutdown: float | None) -> None:
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    _tls.check_timeouts(ssl, handshake, shutdown)


def _bind_all(
    addresses: list[tuple[Any, ...]], reuse_address: bool, reuse_port: bool | None, keep_alive: bool | None
) -> list[socket.socket]:
    """Listening sockets for all addresses; none stays open when one fails."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                # The system does not have this family (IPv6 switched off, say).
                continue
            sockets.append(sock)
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            # Only internet sockets can share a port.
            if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
                base_events._set_reuseport(sock)  # type: ignore[attr-defined]
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            if family == socket.AF_INET6:
                # Its own socket serves IPv4.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sock.bind(address)
            except OSError as error:
                reason = error.strerror.lower() if error.strerror else str(error)
                if error.errno == errno.EADDRNOTAVAIL and len(addresses) > 1:
                    # One of several addresses of a name that this machine does not have.
                    sockets.pop().close()
                    continue
                message = f"error while attempting to bind on address {address!r}: {reason}"
                raise OSError(error.errno, message) from None
        if not sockets:
            listed = [info[4] for info in addresses]
            raise OSError(f"could not bind on any address out of {listed!r}")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_unix(path: str | bytes) -> socket.socket:
    """A Unix socket at `path`; a socket that lies there from before is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path and path[0] not in (0, "\x00"):
            try:
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    os.remove(path)
            except FileNotFoundError:
                pass
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_own_path(path: str, inode: int) -> None:
    """Removes a server's socket unless another server has put its own there since."""
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
