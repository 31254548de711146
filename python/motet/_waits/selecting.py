"""Waiting for the first of several things, or only for time."""

from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

if TYPE_CHECKING:
    from motet._motet import Wait

__all__ = ["Selected", "after", "aselect", "asleep", "select", "sleep"]


class Selected(NamedTuple):
    """What a select has done: the place of the operation among the arguments, and what that gave."""

    which: int
    value: Any


def select(*operations: "Wait[Any]", timeout: float | None = None) -> Selected:
    """Wait for the first of several operations; the others have not happened.

    Operations are made by `channel.getting()`, `channel.putting(item)`, `event.waiting()`,
    `lock.acquiring()`, `semaphore.acquiring()` and `motet.after(seconds)`, each for one select. If several
    can be done at once, it is the first of them.

    Args:
        operations: what to wait for.
        timeout: seconds after which nothing is waited for any more.

    Raises:
        TimeoutError: none could be done in time.
        Closed: the operation is on a channel that is closed.
        WouldBlock: it would have to wait, and an event loop runs in this thread; use `aselect`.
    """
    selected: Selected = _motet._select(*operations, timeout=timeout)
    return selected


def aselect(*operations: "Wait[Any]", timeout: float | None = None) -> "Wait[Selected]":
    """As `select`, awaited: in tasks of asyncio and of trio."""
    return _motet._aselect(*operations, timeout=timeout)


def sleep(seconds: float) -> None:
    """Block this thread for so many seconds; signals are handled meanwhile.

    Raises:
        WouldBlock: an event loop runs in this thread; use `asleep`.
    """
    _motet._sleep(seconds)


def asleep(seconds: float) -> "Wait[None]":
    """As `sleep`, awaited: in tasks of asyncio and of trio. With 0, the others have a turn."""
    return _motet._asleep(seconds)


def after(seconds: float) -> "Wait[None]":
    """An operation of a select that is done after so many seconds, counted from the select on."""
    return _motet._after(seconds)
