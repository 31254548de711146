"""How asyncio's stream functions come to give native streams.

`_streams.py` is imported by the first call only: this may be needed while asyncio is being imported.
"""

import asyncio
import contextlib
import threading
from asyncio import events, streams
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

_NAMES = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")

# How many runs want asyncio's functions to give native streams, and what the functions were before.
_lock = threading.Lock()
_users = 0
_stock: dict[str, Any] = {}


def install() -> None:
    """Has asyncio's stream functions give native streams to programs on motet's loop, until `uninstall()`."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            for name in _NAMES:
                _stock[name] = getattr(streams, name)
                _put(name, _chosen_by_loop(name, _stock[name]))


def uninstall() -> None:
    """Takes one `install()` back."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            for name in _NAMES:
                _put(name, _stock.pop(name))


def _put(name: str, function: Any) -> None:
    for module in (asyncio, streams):
        module.__dict__[name] = function


def _chosen_by_loop(name: str, stock: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(stock)
    async def function(*args: Any, **kwds: Any) -> Any:
        from . import _streams
        from ._loop import EventLoop

        on_motet = isinstance(events.get_running_loop(), EventLoop)
        return await (getattr(_streams, name) if on_motet else stock)(*args, **kwds)

    return function


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """`install()` for a while."""
    install()
    try:
        yield
    finally:
        uninstall()
