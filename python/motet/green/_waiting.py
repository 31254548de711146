"""Waiting in a green thread, and for one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from motet import _motet
from motet._motet import GreenThread
from motet._waits.locks import Event

from . import _ending

T = TypeVar("T")
P = ParamSpec("P")


def sleep(seconds: float = 0) -> None:
    """Let others run for so many seconds; with 0, those that are ready."""
    if seconds == 0:
        _motet._give_way()
    else:
        # A thread without green threads sleeps itself.
        _motet._sleep(seconds)


def getcurrent() -> "GreenThread[Any] | None":
    """The green thread that runs here; None in plain code and in tasks."""
    return _motet._current_green_thread()


async def result(thread: "GreenThread[T]") -> T:
    """What awaiting a green thread gives."""
    await thread.ajoin()
    return thread.result(0)


def wait(awaitable: Awaitable[T], timeout: float | None = None) -> T:
    """Wait for a coroutine, a future or anything that can be awaited; it runs on the loop of this thread.

    Args:
        awaitable: what to wait for. It is cancelled if the wait ends before it does.
        timeout: seconds to wait at most.

    Raises:
        TimeoutError: it took longer; and whatever it raises.
    """
    loop = _motet._loop_of_green_threads()
    future: asyncio.Future[T] = asyncio.ensure_future(_as_coroutine(awaitable), loop=loop)
    done = Event()
    future.add_done_callback(lambda _: done.set())
    try:
        if not done.wait(timeout):
            raise TimeoutError
    except BaseException:
        future.cancel()
        raise
    return future.result()


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function as a green thread on a loop of its own, which is closed at the end; for plain code.

    Returns:
        What the function returns, or raises what it raises.
    """
    loop = _motet._loop_of_green_threads()
    try:
        return _motet.spawn(function, *args, **kwargs).result()
    finally:
        _ending.close(loop)
