"""Datagrams: `create_datagram_endpoint` is `asyncio.BaseEventLoop`'s, its transport is the core's."""

import asyncio
import socket
import weakref
from asyncio import selector_events
from typing import Any

from ._base import LoopBase

_NATIVE_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class DatagramMethods(LoopBase):
    """What `asyncio.BaseEventLoop.create_datagram_endpoint` asks of a loop."""

    # asyncio's own transports enter themselves here.
    _transports: weakref.WeakValueDictionary[int, asyncio.BaseTransport]

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        if sock.family in _NATIVE_FAMILIES:
            return self._begin_datagrams(sock, protocol, address or None, waiter, extra)
        transport: asyncio.DatagramTransport = _ForeignTransport(self, sock, protocol, address, waiter, extra)
        return transport


class _ForeignTransport(selector_events._SelectorDatagramTransport):  # type: ignore[misc, name-defined]
    """asyncio's own transport over this loop's readers and writers.

    For families whose addresses only the `socket` module knows: Netlink, CAN, Bluetooth.
    """

    def __repr__(self) -> str:
        # asyncio's looks into the selector of its own loop.
        state = "closed" if self._sock is None else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} fd={self._sock_fd} bufsize={self.get_write_buffer_size()}>"
