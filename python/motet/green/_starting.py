"""Starting green threads later, and ending them."""

import time
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from greenlet import GreenletExit

from motet import _motet
from motet._motet import GreenThread

T = TypeVar("T")
P = ParamSpec("P")


def spawn_later(
    seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> "GreenThread[T]":
    """As `spawn`, after so many seconds. Until then it can be killed."""
    if seconds < 0:
        raise ValueError(f"seconds must not be negative, not {seconds}")
    thread = _motet._make_green_thread(function, *args, **kwargs)
    thread._loop.call_later(seconds, thread._start)
    return thread


def join(threads: Iterable["GreenThread[Any]"], timeout: float | None = None) -> list["GreenThread[Any]"]:
    """Wait until all have ended, or for `timeout` seconds; those that have ended, in the order given."""
    threads = list(threads)
    until = None if timeout is None else time.monotonic() + timeout
    for thread in threads:
        thread.join(None if until is None else max(0.0, until - time.monotonic()))
    return [thread for thread in threads if thread.done]


def kill(
    thread: "GreenThread[Any]",
    error: BaseException | type[BaseException] = GreenletExit,
    *,
    timeout: float | None = None,
) -> bool:
    """Have an exception raised where a green thread waits, or instead of its function, and wait for its end.

    Args:
        thread: the green thread; one that has ended is left alone.
        error: what is raised there.
        timeout: seconds to wait for its end, 0 to go on at once.

    Returns:
        Whether it has ended.
    """
    if isinstance(error, type):
        error = error()
    thread.throw(error)
    if thread is _motet._current_green_thread():
        # Its own wait is where it is raised.
        _motet._give_way()
    return thread.join(timeout)
