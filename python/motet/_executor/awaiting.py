"""Waiting for a call's future in a task of asyncio or trio.

Neither library is imported here: one that a task runs on is loaded already.
"""

import contextlib
import sys
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .futures import CallFuture


def wait(future: "CallFuture[Any]") -> Generator[Any, Any, None]:
    """Suspends the task until the future is done; cancels the call, by force, when the task is cancelled.

    Raises RuntimeError when there is no task of asyncio or trio.
    """
    library = _current_library()
    if library == "asyncio":
        return _wait_in_asyncio(future)
    if library == "trio":
        return _wait_in_trio(future)
    where = f"in a task of {library}" if library else "outside of an event loop"
    raise RuntimeError(
        f"{future!r} cannot be awaited {where}, only in asyncio and trio; use 'future.result()' in plain code"
    )


def _current_library() -> str | None:
    # As `sniffio.current_async_library()`, which the libraries themselves see to.
    sniffio: Any = sys.modules.get("sniffio")
    if sniffio is not None:
        name: str | None = sniffio.thread_local.name or sniffio.current_async_library_cvar.get()
        if name is not None:
            return name
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return "asyncio"
    return None


def _wait_in_asyncio(future: "CallFuture[Any]") -> Generator[Any, Any, None]:
    asyncio: Any = sys.modules["asyncio"]
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    future.add_done_callback(partial(_wake_in_asyncio, loop, waiter))
    try:
        yield from waiter.__await__()
    except asyncio.CancelledError:
        future.cancel(kill=True)
        raise


def _wake_in_asyncio(loop: Any, waiter: Any, _future: object) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, waiter)
    except RuntimeError:
        # A closed loop's tasks wait for nothing.
        if not loop.is_closed():
            raise


def _resolve(waiter: Any) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _wait_in_trio(future: "CallFuture[Any]") -> Generator[Any, Any, None]:
    trio: Any = sys.modules["trio"]
    # The task to wake; gone when it waits no more.
    waiting = [trio.lowlevel.current_task()]
    future.add_done_callback(partial(_wake_in_trio, trio, trio.lowlevel.current_trio_token(), waiting))

    def abort(_raise_cancel: object) -> Any:
        waiting.clear()
        return trio.lowlevel.Abort.SUCCEEDED

    try:
        yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()
    except trio.Cancelled:
        future.cancel(kill=True)
        raise


def _wake_in_trio(trio: Any, token: Any, waiting: list[Any], _future: object) -> None:
    with contextlib.suppress(trio.RunFinishedError):
        token.run_sync_soon(_reschedule, trio, waiting)


def _reschedule(trio: Any, waiting: list[Any]) -> None:
    if waiting:
        trio.lowlevel.reschedule(waiting.pop())
