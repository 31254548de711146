"""TLS: the transports behind `ssl=` and `start_tls()`.

Two ways, with the same behaviour: `native` drives the interpreter's own OpenSSL from Rust, `memory-bio` is
the standard library's `asyncio.sslproto`. The environment variable `MOTET_TLS` names the one to take; where
OpenSSL cannot be reached, or not for one connection (a context that makes objects of another kind), it is
`memory-bio`.
"""

import asyncio
import os
import ssl
import sys
from asyncio import constants, sslproto
from collections.abc import Callable
from typing import Any

from . import _motet
from ._base import LoopBase

_ProtocolFactory = Callable[[], asyncio.BaseProtocol]

NATIVE = "native"
MEMORY_BIO = "memory-bio"

# An object for TLS over memory is made with such; the native way then gives it memory of its own.
_NO_INPUT = ssl.MemoryBIO()
_NO_OUTPUT = ssl.MemoryBIO()


def choose_way() -> str:
    """The way that a new loop does TLS.

    Raises `ValueError` when `MOTET_TLS` names none.
    """
    wanted = os.environ.get("MOTET_TLS") or NATIVE
    if wanted not in (NATIVE, MEMORY_BIO):
        raise ValueError(f"MOTET_TLS must be {NATIVE!r} or {MEMORY_BIO!r}, not {wanted!r}")
    return NATIVE if wanted == NATIVE and _motet._reach_libssl() else MEMORY_BIO


def check_timeouts(context: Any, handshake: float | None, shutdown: float | None) -> None:
    """Refuses time limits without TLS, and such as cannot be kept."""
    for name, limit in (("ssl_handshake_timeout", handshake), ("ssl_shutdown_timeout", shutdown)):
        if limit is not None:
            if not context:
                raise ValueError(f"{name} is only meaningful with ssl")
            if limit <= 0:
                raise ValueError(f"{name} should be a positive number, got {limit}")


class TlsMethods(LoopBase):
    """The TLS side of an event loop."""

    _tls_way: str

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: "asyncio.Future[None] | None" = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        transport, lower = self._tls_layer(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, lower, extra=extra, server=server)
        return transport

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Goes over to TLS on a connection that has been without, or within TLS; as `asyncio`'s method."""
        check_timeouts(sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout)
        limits = ssl_handshake_timeout, ssl_shutdown_timeout
        if (
            self._tls_way == NATIVE
            and type(transport) is _motet.SocketTransport
            and isinstance(sslcontext, ssl.SSLContext)
        ):
            waiter = self.create_future()
            layer = self._native_layer(
                protocol, sslcontext, waiter, server_side, server_hostname, *limits, made=True
            )
            if layer is not None:
                self._start_tls(transport, layer, _take_read_ahead(protocol) if server_side else b"")
                try:
                    await waiter
                except BaseException:
                    transport.close()
                    raise
                return layer
        reader = getattr(protocol, "_stream_reader", None)
        if server_side and sys.version_info >= (3, 14) and isinstance(reader, _motet.ReaderCore):
            # asyncio copies from there what was read ahead, within the call, and means to have taken it.
            self.call_soon(reader._take_buffer)
        return await super().start_tls(
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    def _over_tls(
        self,
        protocol_factory: _ProtocolFactory,
        context: Any,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> _ProtocolFactory:
        """A factory for accepted connections: what it makes does TLS for a protocol of `protocol_factory`."""

        def make() -> asyncio.BaseProtocol:
            waiter = None
            if self.get_debug():
                waiter = self.create_future()
                waiter.add_done_callback(self._handshake_ended)
            _, lower = self._tls_layer(
                protocol_factory(), context, waiter, True, None, handshake_timeout, shutdown_timeout
            )
            below: asyncio.BaseProtocol = lower
            return below

        return make

    def _handshake_ended(self, waiter: "asyncio.Future[None]") -> None:
        error = waiter.exception()
        if error is not None:
            message = "Error on transport creation for incoming connection"
            self.call_exception_handler({"message": message, "exception": error})

    def _tls_layer(
        self,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext | None,
        waiter: "asyncio.Future[None] | None",
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> tuple[asyncio.Transport, Any]:
        """A TLS transport for `protocol`, and what the socket's transport below has for its protocol."""
        check_timeouts(True, handshake_timeout, shutdown_timeout)
        if context is None:
            context = _default_context(server_side, server_hostname)
        limits = handshake_timeout, shutdown_timeout
        if self._tls_way == NATIVE:
            native = self._native_layer(
                protocol, context, waiter, server_side, server_hostname, *limits, made=False
            )
            if native is not None:
                return native, native
        # The published types of the class say less than it takes.
        make: Any = sslproto.SSLProtocol
        layer = make(
            self,
            protocol,
            context,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=handshake_timeout,
            ssl_shutdown_timeout=shutdown_timeout,
        )
        return layer._app_transport, layer

    def _native_layer(
        self,
        protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        waiter: "asyncio.Future[None] | None",
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
        *,
        made: bool,
    ) -> _motet.SSLTransport | None:
        hostname = None if server_side else server_hostname or None
        ssl_object = context.wrap_bio(
            _NO_INPUT, _NO_OUTPUT, server_side=server_side, server_hostname=hostname
        )
        return self._make_tls_transport(
            protocol,
            ssl_object,
            context,
            waiter,
            server_side,
            made,
            constants.SSL_HANDSHAKE_TIMEOUT if handshake_timeout is None else handshake_timeout,
            constants.SSL_SHUTDOWN_TIMEOUT if shutdown_timeout is None else shutdown_timeout,
        )


def _take_read_ahead(protocol: asyncio.BaseProtocol) -> bytes:
    """What a stream has read before the program has asked for TLS: a client need not wait for the answer."""
    reader = getattr(protocol, "_stream_reader", None)
    if not isinstance(protocol, asyncio.StreamReaderProtocol) or reader is None:
        return b""
    if isinstance(reader, _motet.ReaderCore):
        return reader._take_buffer()
    received = bytes(reader._buffer)
    reader._buffer.clear()
    return received


def _default_context(server_side: bool, server_hostname: str | None) -> ssl.SSLContext:
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context
