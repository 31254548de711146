"""Who runs a scope's block: a thread, a green thread or a task."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from motet import _motet
from motet._waits.errors import Cancelled, WouldBlock

from . import children
from .children import Child, Place

if TYPE_CHECKING:
    from .scope import Scope

# Seconds between two deliveries of a cancellation to a task that waits again.
AGAIN = 0.005


class Host:
    """A thread or a green thread: its waits look at the scope's token."""

    cancellation: type[BaseException] = Cancelled

    def __init__(self, scope: "Scope", place: Place) -> None:
        self.scope = scope
        self.place: Place = place

    @classmethod
    def of_this_thread(cls, scope: "Scope") -> "Host":
        """The host of `with scope:`."""
        if _motet._current_green_thread() is not None:
            return cls(scope, "green")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return cls(scope, "thread")
        raise WouldBlock("the end of 'with Scope()' would block the event loop; use 'async with Scope()'")

    def is_within(self, outer: "Scope") -> bool:
        """Whether the outer scope's cancellation is to reach this one by the scopes alone."""
        return True

    def make_child(self, function: Callable[..., Any], on: Place | None, name: str) -> Child:
        """A child that has not begun."""
        if children.is_coroutine_function(function):
            if on in (None, "task"):
                raise TypeError(f"{name} is a coroutine function: it needs 'async with Scope()'")
            raise TypeError(f"{name} is a coroutine function: it can only run as a task, not on={on!r}")
        return kind_of(on or self.place, name)(self.scope, name)

    def cancel(self) -> None:
        """The scope is cancelled."""

    def end(self, error: BaseException | None) -> bool:
        """The block is over; whether the cancellation that left it ends here."""
        outer = self.scope._outer
        return isinstance(error, Cancelled) and not (outer is not None and outer.cancelled)


def kind_of(on: str, name: str) -> type[Child]:
    """The class of children in this place."""
    if on == "task":
        raise TypeError(f"{name} is no coroutine function, and only such run as tasks; say on='thread'")
    if on not in children.KINDS:
        raise ValueError(f"on must be 'task', 'thread', 'green' or 'process', not {on!r}")
    return children.KINDS[on]


class TaskChild(Child):
    """A coroutine in a task."""

    task: "asyncio.Task[Any]"

    def begin(self, call: Callable[[], Any]) -> None:
        assert isinstance(self.scope._host, TaskHost)
        self.task = self.scope._host.loop.create_task(call(), name=self.name)
        self.task.add_done_callback(self._done)

    def cancel(self) -> None:
        assert isinstance(self.scope._host, TaskHost)
        self.scope._host.deliver_soon()

    def _done(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            error: BaseException | None = None if self.scope.cancelled else asyncio.CancelledError()
            self.scope._ended(self, error)
        else:
            self.scope._ended(self, task.exception())


# The scopes whose blocks a task runs, the innermost last.
_stacks: "dict[asyncio.Task[Any], list[Scope]]" = {}


class TaskHost(Host):
    """A task of asyncio: it is cancelled by `Task.cancel`, again and again while it waits."""

    cancellation = asyncio.CancelledError

    def __init__(self, scope: "Scope") -> None:
        super().__init__(scope, "task")
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("'async with Scope()' needs a task")
        self.task = task
        self.requests_before = task.cancelling()
        self.requests = 0
        self.in_body = True
        self._delivering = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The block begins."""
        _stacks.setdefault(self.task, []).append(self.scope)
        left = self.scope._left()
        if left is not None:
            self._timer = self.loop.call_later(left, self.scope._expire)

    def is_within(self, outer: "Scope") -> bool:
        # A scope of the same task is left by the exception that the outer one has raised in that.
        return outer._host is None or getattr(outer._host, "task", None) is not self.task

    def make_child(self, function: Callable[..., Any], on: Place | None, name: str) -> Child:
        if children.is_coroutine_function(function):
            if on not in (None, "task"):
                raise TypeError(f"{name} is a coroutine function: it can only run as a task, not on={on!r}")
            return TaskChild(self.scope, name)
        if on is None:
            raise TypeError(f"{name} is no coroutine function: say on='thread', 'green' or 'process'")
        return kind_of(on, name)(self.scope, name)

    def cancel(self) -> None:
        self.deliver_soon()

    def deliver_soon(self) -> None:
        """Have what waits cancelled; from any thread."""
        with contextlib.suppress(RuntimeError):
            # A closed loop's tasks wait for nothing.
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self._delivering:
            return
        waits = False
        for child in list(self.scope._children):
            if isinstance(child, TaskChild) and hasattr(child, "task") and not child.task.done():
                waits = True
                if _may_cancel(child.task, None):
                    child.task.cancel()
        if self.in_body:
            waits = True
            if _may_cancel(self.task, self.scope):
                self.requests += 1
                self.task.cancel()
        if waits:
            self._delivering = True
            self.loop.call_later(AGAIN, self._deliver_again)

    def _deliver_again(self) -> None:
        self._delivering = False
        self._deliver()

    async def wait_until_idle(self) -> BaseException | None:
        """Wait for the children; what has interrupted that from outside."""
        self.in_body = False
        interruption = None
        while True:
            try:
                await self.scope._idle.await_()
                return interruption
            except asyncio.CancelledError as error:
                if self.task.cancelling() > self.requests_before + self.requests:
                    interruption = error
                self.scope.cancel()

    def end(self, error: BaseException | None) -> bool:
        self.in_body = False
        if self._timer is not None:
            self._timer.cancel()
        stack = _stacks[self.task]
        stack.remove(self.scope)
        if not stack:
            del _stacks[self.task]
        for _ in range(self.requests):
            self.task.uncancel()
        is_own = isinstance(error, asyncio.CancelledError) and self.requests > 0
        # Somebody else may have asked too.
        swallows = is_own and self.task.cancelling() <= self.requests_before
        for outer in stack:
            # What a shield has kept away.
            if outer.cancelled and isinstance(outer._host, TaskHost):
                outer._host.deliver_soon()
        return swallows


def _may_cancel(task: "asyncio.Task[Any]", scope: "Scope | None") -> bool:
    """Whether a task waits, and in no shielded block within the scope's."""
    stack = _stacks.get(task, [])
    inner = stack[stack.index(scope) + 1 :] if scope in stack else stack
    return getattr(task, "_fut_waiter", None) is not None and not any(within.shield for within in inner)
