"""TLS: the transports behind `ssl=` and `start_tls()`."""

import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any

from ._base import LoopBase

_ProtocolFactory = Callable[[], asyncio.BaseProtocol]


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
        layer = self._tls_layer(
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, layer, extra=extra, server=server)
        transport: asyncio.Transport = layer._app_transport
        return transport

    # The published types of the class say less than it takes.
    def _tls_layer(self, *arguments: Any, **options: Any) -> Any:
        layer: Any = sslproto.SSLProtocol
        return layer(self, *arguments, **options)

    def _over_tls(
        self,
        protocol_factory: _ProtocolFactory,
        context: Any,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> _ProtocolFactory:
        """A factory for accepted connections: what it makes does TLS for a protocol of `protocol_factory`."""

        def make() -> asyncio.BaseProtocol:
            waiter = self.create_future()
            waiter.add_done_callback(self._handshake_ended)
            layer: asyncio.BaseProtocol = self._tls_layer(
                protocol_factory(),
                context,
                waiter,
                server_side=True,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
            )
            return layer

        return make

    def _handshake_ended(self, waiter: "asyncio.Future[None]") -> None:
        error = waiter.exception()
        if error is not None and self.get_debug():
            message = "Error on transport creation for incoming connection"
            self.call_exception_handler({"message": message, "exception": error})
