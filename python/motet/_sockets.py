"""The `sock_…` methods and `add_reader` and its kin: coroutines over the loop's waiting calls."""

import asyncio
import socket
from asyncio import base_events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ._base import LoopBase

if TYPE_CHECKING:
    from socket import _Address

    from _typeshed import FileDescriptorLike

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

# A Unix socket whose server's queue is full refuses at once instead of going on in the background.
_QUEUE_FULL_PAUSE = 0.005


class SocketMethods(LoopBase):
    """Socket calls of an event loop. The sockets are the caller's and must not block."""

    def _ensure_fd_no_transport(self, fd: "FileDescriptorLike") -> None:
        transport = self._transport_of(_fileno(fd))
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    def add_reader(
        self, fd: "FileDescriptorLike", callback: Callable[[*_Arguments], object], *args: *_Arguments
    ) -> None:
        """Has `callback(*args)` called whenever the descriptor is readable."""
        self._ensure_fd_no_transport(fd)
        self._add_reader(_fileno(fd), callback, *args)

    def remove_reader(self, fd: "FileDescriptorLike") -> bool:
        """Stops calling the reader; returns whether there was one."""
        self._ensure_fd_no_transport(fd)
        return self._remove_reader(_fileno(fd))

    def add_writer(
        self, fd: "FileDescriptorLike", callback: Callable[[*_Arguments], object], *args: *_Arguments
    ) -> None:
        """Has `callback(*args)` called whenever the descriptor is writable."""
        self._ensure_fd_no_transport(fd)
        self._add_writer(_fileno(fd), callback, *args)

    def remove_writer(self, fd: "FileDescriptorLike") -> bool:
        """Stops calling the writer; returns whether there was one."""
        self._ensure_fd_no_transport(fd)
        return self._remove_writer(_fileno(fd))

    def _check_socket(self, sock: socket.socket) -> None:
        base_events._check_ssl_socket(sock)  # type: ignore[attr-defined]
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    async def sock_recv(self, sock: socket.socket, nbytes: int) -> bytes:
        """Receives at most `nbytes` bytes; empty at the end of the stream."""
        data = self._sock_receive(sock, nbytes)
        return data if isinstance(data, bytes) else await data

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receives into a writable buffer; returns the number of bytes."""
        count: int = await self._read(sock, sock.recv_into, buf)
        self._count_bytes(count, 0)
        return count

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receives a datagram; returns it and the sender's address."""
        data, address = await self._read(sock, sock.recvfrom, bufsize)
        self._count_bytes(len(data), 0)
        return data, address

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receives a datagram into a writable buffer; returns its length and the sender's address."""
        count, address = await self._read(sock, sock.recvfrom_into, buf, nbytes or len(buf))
        self._count_bytes(count, 0)
        return count, address

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Sends all of `data`. After an error nobody can tell how much has been sent."""
        waiting = self._sock_send_all(sock, data)
        if waiting is not None:
            await waiting

    async def sock_sendto(self, sock: socket.socket, data: Any, address: "_Address") -> int:
        """Sends a datagram to `address`; returns the number of bytes."""
        count: int = await self._write(sock, sock.sendto, data, address)
        self._count_bytes(0, count)
        return count

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accepts a connection; returns a non-blocking socket and the peer's address."""
        connection, address = await self._read(sock, sock.accept)
        connection.setblocking(False)
        return connection, address

    async def sock_connect(self, sock: socket.socket, address: "_Address") -> None:
        """Connects to `address`; the host may be a name."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        while True:
            try:
                sock.connect(address)
            except (BlockingIOError, InterruptedError):
                if sock.family != socket.AF_UNIX:
                    break
                await asyncio.sleep(_QUEUE_FULL_PAUSE)
            else:
                return
        self._ensure_fd_no_transport(sock)
        await self._sock_wait_writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"Connect call failed {address}")

    async def _read(
        self, sock: socket.socket, method: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> _Result:
        self._check_socket(sock)
        try:
            return method(*args)
        except (BlockingIOError, InterruptedError):
            return await self._sock_retry_read(sock, method, *args)

    async def _write(
        self, sock: socket.socket, method: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> _Result:
        self._check_socket(sock)
        try:
            return method(*args)
        except (BlockingIOError, InterruptedError):
            return await self._sock_retry_write(sock, method, *args)


def _fileno(fd: "FileDescriptorLike") -> int:
    """The descriptor of a number or of an object with `fileno()`."""
    if not isinstance(fd, int):
        try:
            fd = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd
