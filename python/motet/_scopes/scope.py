"""The scope itself: what is the same in plain, green and async code."""

import functools
import itertools
import math
import threading
import time
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Any, Literal, Self

from motet import _motet
from motet._waits.locks import Event

from . import children, current
from .children import Child, Place
from .host import Host, TaskHost

__all__ = ["Scope"]

_numbers = itertools.count(1)


class Scope:
    """A block that its children do not outlive: functions that it starts as tasks, threads, green threads or
    in workers.

    `with Scope():` in plain code and in green threads, `async with Scope():` in tasks of asyncio. The end of
    the block waits for all children. One that raises has the others cancelled, and the block's body; all that
    was raised comes out of the block in an `ExceptionGroup`.

    Cancellation is delivered again at each further wait until the scope ends. In threads and green threads it
    is `motet.Cancelled`, raised by motet's waits and by `motet.checkpoint`; in tasks it is their library's
    own. A worker's call is stopped.

    >>> import motet
    >>> found = motet.Channel[int](None)
    >>> with motet.Scope() as scope:
    ...     scope.start_soon(found.put, 1)
    ...     scope.start_soon(found.put, 2)
    >>> sorted([found.get(), found.get()])
    [1, 2]

    Args:
        timeout: seconds after which it is cancelled, and raises TimeoutError.
        deadline: the same as a time of `time.monotonic()`.
        on_error: "cancel" the others when one fails, or "wait" for them.
        shield: a cancellation from outside waits until this scope has ended.
        name: what people call it.
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        on_error: Literal["cancel", "wait"] = "cancel",
        shield: bool = False,
        name: str | None = None,
    ) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds that is not negative, not {timeout}")
        if on_error not in ("cancel", "wait"):
            raise ValueError(f"on_error must be 'cancel' or 'wait', not {on_error!r}")
        self.name = name or f"scope-{next(_numbers)}"
        self.shield = shield
        self._on_error = on_error
        self._timeout = timeout
        self._deadline = math.inf if deadline is None else deadline
        # Its own, or that of an outer scope if that comes first.
        self._limit = math.inf
        self._mutex = threading.Lock()
        self._children: set[Child] = set()
        self._idle = Event()
        self._errors: list[BaseException] = []
        self._inner: set[Scope] = set()
        self._cancelled = False
        self._timed_out = False
        self._stage: Literal["new", "open", "ending", "over"] = "new"
        self._token = _motet._Token(self._expire)
        self._host: Host | None = None
        self._outer: Scope | None = None
        self._resets: tuple[Token[Scope | None], Token[_motet._Token | None]] | None = None
        self._workers: Any = None

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, by `cancel()`, an error, its deadline, or from outside."""
        return self._cancelled

    @property
    def timed_out(self) -> bool:
        """Whether that was because its time was over."""
        return self._timed_out

    @property
    def deadline(self) -> float:
        """The time of `time.monotonic()` at which it is cancelled; infinite if there is none."""
        return self._deadline

    def cancel(self) -> None:
        """Have all children and the body end where they wait; from any thread, as often as you like."""
        with self._mutex:
            if self._cancelled or self._stage == "over":
                return
            self._cancelled = True
            found, inner = list(self._children), list(self._inner)
        self._token.cancel()
        for child in found:
            child.cancel()
        for scope in inner:
            if not scope.shield:
                scope.cancel()
        if self._host is not None:
            self._host.cancel()

    def start_soon(
        self, function: Callable[..., Any], *args: Any, on: Place | None = None, name: str | None = None
    ) -> None:
        """Start a child.

        Args:
            function: a function or a coroutine function.
            args: its arguments.
            on: "task", "thread", "green" or "process"; by itself a coroutine function is a task, and another
            function
                a thread in plain code, a green thread in a green thread.
            name: what people call it.
        """
        _check(function)
        self._start(function, functools.partial(function, *args), on, name)

    def start(
        self, function: Callable[..., Any], *args: Any, on: Place | None = None, name: str | None = None
    ) -> Any:
        """Start a child and wait until it calls the `ready` that it is given by that name; what that was
        called with.

        Raises:
            RuntimeError: it ended without doing so. What it raised comes out of the block.
        """
        ready, started = self._begin_start(function, args, on, name)
        started.wait()
        return self._end_start(function, ready)

    async def astart(
        self, function: Callable[..., Any], *args: Any, on: Place | None = None, name: str | None = None
    ) -> Any:
        """As `start`, awaited."""
        ready, started = self._begin_start(function, args, on, name)
        await started.await_()
        return self._end_start(function, ready)

    def __enter__(self) -> Self:
        self._open(Host.of_this_thread(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._leave_body(error)
        is_idle = False
        while not is_idle:
            try:
                is_idle = self._idle.wait(self._left())
            except BaseException as interruption:
                # By the handler of a signal. It comes out of the block, like an error of the body.
                self._leave_body(interruption)
                error = interruption
            if not is_idle:
                self._expire()
        return self._close(error)

    async def __aenter__(self) -> Self:
        host = TaskHost(self)
        self._open(host)
        host.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert isinstance(self._host, TaskHost)
        self._leave_body(error)
        interruption = await self._host.wait_until_idle()
        swallows = self._close(error or interruption)
        if error is None and interruption is not None and not swallows:
            raise interruption
        return swallows

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else self._stage
        return f"<motet.Scope {self.name!r} {state} children={len(self._children)}>"

    # ---- the life of the block ----

    def _open(self, host: Host) -> None:
        if self._stage != "new":
            raise RuntimeError(f"{self!r} was entered before; make a new one each time")
        outer = current.SCOPE.get()
        if self._timeout is not None:
            self._deadline = min(self._deadline, time.monotonic() + self._timeout)
        self._stage = "open"
        self._host, self._outer = host, outer
        self._limit = self._deadline
        if outer is not None and not self.shield:
            self._limit = min(self._limit, outer._limit)
        self._idle.set()
        self._token.limit(self._left())
        self._resets = current.SCOPE.set(self), current.TOKEN.set(self._token)
        if outer is not None and host.is_within(outer):
            with outer._mutex:
                outer._inner.add(self)
                is_late = outer._cancelled and not self.shield
            if is_late:
                self.cancel()

    def _leave_body(self, error: BaseException | None) -> None:
        self._stage = "ending"
        # Waits from here on are the scope's own, and end when its children have.
        current.TOKEN.set(None)
        if error is not None and not self._is_cancellation(error):
            with self._mutex:
                self._errors.append(error)
            if self._on_error == "cancel" or not isinstance(error, Exception):
                self.cancel()
        elif error is not None:
            # From outside: nobody waits for what the children would do.
            self.cancel()

    def _close(self, error: BaseException | None) -> bool:
        with self._mutex:
            self._stage = "over"
        if self._workers is not None:
            self._workers.shutdown()
        if self._outer is not None:
            with self._outer._mutex:
                self._outer._inner.discard(self)
        assert self._host is not None
        swallows = self._host.end(error)
        assert self._resets is not None
        current.SCOPE.reset(self._resets[0])
        current.TOKEN.reset(self._resets[1])
        if self._errors:
            if len(self._errors) == 1 and self._errors[0] is error and not isinstance(error, Exception):
                # As `KeyboardInterrupt` of the body: nothing was added to it.
                raise error
            raise BaseExceptionGroup(f"in {self.name}", self._errors) from None
        if self._timed_out:
            raise TimeoutError(f"{self.name} took too long") from None
        return error is not None and swallows

    def _is_cancellation(self, error: BaseException) -> bool:
        assert self._host is not None
        return isinstance(error, self._host.cancellation)

    def _left(self) -> float | None:
        if self._limit == math.inf or self._cancelled:
            return None
        return max(0.0, self._limit - time.monotonic())

    def _expire(self) -> None:
        """The time is over, of this scope or of an outer one."""
        outer = self._outer
        if outer is not None and outer._limit <= min(self._limit, time.monotonic()):
            outer._expire()
        if self._deadline > time.monotonic():
            return
        with self._mutex:
            if self._cancelled or self._stage == "over":
                return
            self._timed_out = True
        self.cancel()

    # ---- children ----

    def _start(
        self, function: Callable[..., Any], call: Callable[[], Any], on: Place | None, name: str | None
    ) -> Child:
        with self._mutex:
            if self._stage not in ("open", "ending") or (self._stage == "ending" and not self._children):
                raise RuntimeError(f"{self!r} starts nothing any more")
        assert self._host is not None
        child = self._host.make_child(function, on, name or children.name_of(function))
        with self._mutex:
            self._children.add(child)
            self._idle.clear()
            is_late = self._cancelled
        # So that it inherits this scope, whoever starts it.
        scope, token = current.SCOPE.set(self), current.TOKEN.set(self._token)
        try:
            child.begin(call)
        except BaseException:
            self._ended(child, None)
            raise
        finally:
            current.SCOPE.reset(scope)
            current.TOKEN.reset(token)
        if is_late:
            child.cancel()
        return child

    def _begin_start(
        self, function: Callable[..., Any], args: tuple[Any, ...], on: Place | None, name: str | None
    ) -> tuple[list[Any], Event]:
        if on == "process":
            raise ValueError("a call in a worker process cannot say that it is ready; use start_soon")
        _check(function)
        ready: list[Any] = []
        started = Event()

        def say(value: Any = None) -> None:
            ready.append(value)
            started.set()

        child = self._start(function, functools.partial(function, *args, ready=say), on, name)
        child.started = started  # type: ignore[attr-defined]
        if child not in self._children:
            started.set()
        return ready, started

    def _end_start(self, function: Callable[..., Any], ready: list[Any]) -> Any:
        if not ready:
            raise RuntimeError(f"{children.name_of(function)} ended before it called ready()")
        return ready[0]

    def _ended(self, child: Child, error: BaseException | None) -> None:
        """A child has ended; called in whatever thread."""
        assert self._host is not None
        is_failure = error is not None and not (
            isinstance(error, (current.Cancelled, self._host.cancellation)) and self._cancelled
        )
        if is_failure:
            with self._mutex:
                self._errors.append(error)  # type: ignore[arg-type]
            if self._on_error == "cancel" or not isinstance(error, Exception):
                self.cancel()
        started = getattr(child, "started", None)
        with self._mutex:
            self._children.discard(child)
            if not self._children:
                self._idle.set()
        if started is not None:
            started.set()

    def _executor(self) -> Any:
        if self._workers is None:
            from motet._executor.executor import Executor

            self._workers = Executor("processes")
        return self._workers


def _check(function: Any) -> None:
    if not callable(function):
        raise TypeError(f"a scope starts functions, not {type(function).__name__}; leave the () away")
