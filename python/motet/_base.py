"""What the parts of `motet.EventLoop` derive from: at run time the Rust core alone.

`asyncio.BaseEventLoop` comes in only where `EventLoop` puts all parts together, behind every one of them.
Type checkers see both here, so that a part may call what it will have by then; the methods named below are
those of `asyncio.BaseEventLoop` that motet calls and that its published types leave out.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._motet import Loop

if TYPE_CHECKING:
    _Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

    # The core's handles stand in for asyncio's, and are not derived from them.
    class LoopBase(Loop, asyncio.BaseEventLoop):  # type: ignore[misc]
        """The Rust core with asyncio's base class behind it."""

        _asyncgen_firstiter_hook: Callable[[Any], None]
        _asyncgen_finalizer_hook: Callable[[Any], None]

        def _check_running(self) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        async def _ensure_resolved(
            self, address: Any, *, family: int, type: int, proto: int, loop: asyncio.AbstractEventLoop
        ) -> list[tuple[Any, ...]]: ...
        async def _create_server_getaddrinfo(
            self, host: str | None, port: int | str | None, family: int, flags: int
        ) -> list[tuple[Any, ...]]: ...
        def _over_tls(
            self,
            protocol_factory: Callable[[], asyncio.BaseProtocol],
            context: Any,
            handshake_timeout: float | None,
            shutdown_timeout: float | None,
        ) -> Callable[[], asyncio.BaseProtocol]: ...
        async def _create_connection_transport(
            self,
            sock: Any,
            protocol_factory: Callable[[], _Protocol],
            ssl: Any,
            server_hostname: str | None,
            server_side: bool = False,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
        ) -> tuple[asyncio.Transport, _Protocol]: ...

else:
    LoopBase = Loop
