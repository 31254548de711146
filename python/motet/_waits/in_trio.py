"""Waiting in a task of trio's, which is loaded already where one runs."""

import contextlib
import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motet._motet import Wait


def current_task() -> Any:
    """The task of trio's that runs in this thread; None otherwise."""
    trio: Any = sys.modules["trio"]
    # Within guest mode asyncio's loop runs as well; what counts is whose task this is.
    try:
        return trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
    except AttributeError:
        # Half imported.
        return None


def awaited(wait: "Wait[Any]") -> Iterator[Any]:
    """What awaiting a wait goes through, in a task of whatever library."""
    task = current_task()
    return wait if task is None else _wait(wait, task)


class _Waker:
    """Wakes a task, from any thread."""

    def __init__(self, trio: Any, task: Any) -> None:
        # None when it waits no more.
        self.task = task
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()

    def __call__(self, _wait: object) -> None:
        with contextlib.suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._reschedule)

    def _reschedule(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._trio.lowlevel.reschedule(task)

    def forget(self, _raise_cancel: object) -> Any:
        """The task waits no more."""
        self.task = None
        return self._trio.lowlevel.Abort.SUCCEEDED


def _wait(wait: "Wait[Any]", task: Any) -> Generator[Any, Any, Any]:
    trio: Any = sys.modules["trio"]
    yield from trio.lowlevel.checkpoint_if_cancelled().__await__()
    waker = _Waker(trio, task)
    seconds = wait._seconds()
    done = wait._begin(waker, task)
    if done is not None:
        yield from trio.lowlevel.cancel_shielded_checkpoint().__await__()
        return done[0]
    try:
        with trio.move_on_after(seconds) if seconds is not None else contextlib.nullcontext():
            yield from trio.lowlevel.wait_task_rescheduled(waker.forget).__await__()
            return wait._finish()
    except BaseException:
        # What it was given meanwhile is the next one's.
        wait.close()
        raise
    return wait._give_up()
