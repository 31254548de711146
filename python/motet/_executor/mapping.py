"""`motet.map` and `motet.amap`: one function, many inputs."""

from __future__ import annotations

import builtins
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, cast, get_args, overload

from .chunks import OnError
from .coroutine_functions import is_asynchronous
from .executor import Place
from .machine import usable_cpus
from .notebooks import is_kernel

T = TypeVar("T")

# Calls of an asynchronous function at the same time: as many connections as HTTP clients usually keep.
TASKS = 100


class Plan(NamedTuple):
    """A mapping's arguments, which were found to be right."""

    function: Callable[..., Any]
    iterables: tuple[Any, ...]
    on: Place
    workers: int
    ordered: bool
    buffer: int | None
    chunk: int | None
    timeout: float | None
    retries: int
    progress: bool
    on_error: OnError
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    is_async: bool
    name: str


@overload
def map(
    function: Callable[..., Coroutine[Any, Any, T]],
    *iterables: Iterable[Any],
    on: Place = ...,
    workers: int | None = ...,
    ordered: bool = ...,
    buffer: int | None = ...,
    chunk: int | None = ...,
    timeout: float | None = ...,
    retries: int = ...,
    progress: bool = ...,
    on_error: OnError = ...,
    initializer: Callable[..., object] | None = ...,
    initargs: tuple[Any, ...] = ...,
) -> Generator[T, None, None]: ...
@overload
def map(
    function: Callable[..., T],
    *iterables: Iterable[Any],
    on: Place = ...,
    workers: int | None = ...,
    ordered: bool = ...,
    buffer: int | None = ...,
    chunk: int | None = ...,
    timeout: float | None = ...,
    retries: int = ...,
    progress: bool = ...,
    on_error: OnError = ...,
    initializer: Callable[..., object] | None = ...,
    initargs: tuple[Any, ...] = ...,
) -> Generator[T, None, None]: ...
def map(
    function: Callable[..., Any],
    *iterables: Iterable[Any],
    on: Place = "auto",
    workers: int | None = None,
    ordered: bool = True,
    buffer: int | None = None,
    chunk: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    progress: bool = False,
    on_error: OnError = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Generator[Any, None, None]:
    """Calls the function with each item, on workers or, if it is asynchronous, on a loop; gives the results.

    Lazy and bounded: nothing begins before the first result is asked for, and items are taken from the
    iterables in the caller's thread, as results are. Several iterables are gone through together, up to the
    end of the shortest. A result that is ready waits at most until the iterables have given the next chunk.

    Args:
        on: Where calls run, as in `motet.Executor`. Asynchronous functions run on a loop in a thread of its
            own.
        workers: How many calls run at the same time: by default as many as there are processors that the
            process may use, or 100 of an asynchronous function.
        ordered: Results in the order of the items; otherwise as they come.
        buffer: How many items may have been taken whose results have not been. By default 4 chunks for each
            worker (12 of at most 2 milliseconds, if neither `chunk` nor `timeout` is given), or 2 items for
            each call of an asynchronous function.
        chunk: How many items travel together. By default about a millisecond of work, as measured while it
            goes; one at first.
        timeout: Seconds for each attempt of an item, after which it is stopped and has failed of
            `CallTimeout`. Items then travel alone.
        retries: How many times a call that failed is tried again. Where a worker died, all items of its chunk
            are.
        progress: Shows a bar on a terminal and in notebooks, otherwise lines, on `sys.stderr`.
        on_error: With "raise" the exception of a call is raised in the item's place, with a note that names
            the item (counted from 0), and the rest is cancelled; with "return" the exception is given in the
            result's place; with "skip" nothing is. Exceptions that are no `Exception` are always raised.
        initializer, initargs: A function that each worker calls with these arguments before all else.

    Functions that travel to worker processes do so once, as they are when the mapping begins; on threads they
    are the program's own, and so are items. With "auto", the first chunks are measured in processes, and
    later ones may run on threads: say which if the function changes what it shares. An iterable's own
    exception is raised behind the results of what came before it. `close()`, or dropping the iterator,
    cancels what is left: calls that run are stopped, and in threads given up if they do not stop. If a worker
    dies, all items of its chunk have failed. Workers are kept for a while for the next mapping, unless an
    initializer began them. The iterator is for one thread at a time.

    Raises:
        TypeError, ValueError: An argument is not right.
        RuntimeError: The thread runs an event loop, which this would block; use `motet.amap` there. Not in a
            notebook, whose cells always run in a loop and may block it.
    """
    plan = _plan(
        "motet.map", function, iterables, on, workers, ordered, buffer, chunk, timeout, retries, progress,
        on_error, initializer, initargs,
    )  # fmt: skip
    for iterable in iterables:
        if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
            kind = type(iterable).__name__
            raise TypeError(f"motet.map: {kind!r} object is iterable asynchronously only; use motet.amap")
    _check_that_nothing_is_blocked()
    items = _together(iterables)
    from .plain_mapping import results

    return results(plan, items)


@overload
def amap(
    function: Callable[..., Coroutine[Any, Any, T]],
    *iterables: Iterable[Any] | AsyncIterable[Any],
    on: Place = ...,
    workers: int | None = ...,
    ordered: bool = ...,
    buffer: int | None = ...,
    chunk: int | None = ...,
    timeout: float | None = ...,
    retries: int = ...,
    progress: bool = ...,
    on_error: OnError = ...,
    initializer: Callable[..., object] | None = ...,
    initargs: tuple[Any, ...] = ...,
) -> AsyncGenerator[T, None]: ...
@overload
def amap(
    function: Callable[..., T],
    *iterables: Iterable[Any] | AsyncIterable[Any],
    on: Place = ...,
    workers: int | None = ...,
    ordered: bool = ...,
    buffer: int | None = ...,
    chunk: int | None = ...,
    timeout: float | None = ...,
    retries: int = ...,
    progress: bool = ...,
    on_error: OnError = ...,
    initializer: Callable[..., object] | None = ...,
    initargs: tuple[Any, ...] = ...,
) -> AsyncGenerator[T, None]: ...
def amap(
    function: Callable[..., Any],
    *iterables: Iterable[Any] | AsyncIterable[Any],
    on: Place = "auto",
    workers: int | None = None,
    ordered: bool = True,
    buffer: int | None = None,
    chunk: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    progress: bool = False,
    on_error: OnError = "raise",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> AsyncGenerator[Any, None]:
    """`motet.map` for `async for`, in a task of asyncio: waits without blocking the loop.

    Asynchronous functions run as tasks of the running loop. Iterables may be asynchronous: these are taken
    from by a task of their own, so that no result waits for them; others are taken from on the loop's thread.
    An iterator that is left early is closed soon; to have it closed at once, use `contextlib.aclosing`.

    Raises:
        TypeError, ValueError: An argument is not right.
        RuntimeError: At the first step: no event loop of asyncio runs.
    """
    plan = _plan(
        "motet.amap", function, iterables, on, workers, ordered, buffer, chunk, timeout, retries, progress,
        on_error, initializer, initargs,
    )  # fmt: skip
    if plan.is_async and initializer is not None:
        raise ValueError("motet.amap: an asynchronous function has no workers to begin with an initializer")
    is_mixed = any(isinstance(iterable, AsyncIterable) for iterable in iterables)
    items = None if is_mixed else _together(iterables)
    from .awaited_mapping import results

    return results(plan, items)


def _plan(
    name: str,
    function: Any,
    iterables: tuple[Any, ...],
    on: Any,
    workers: Any,
    ordered: Any,
    buffer: Any,
    chunk: Any,
    timeout: Any,
    retries: Any,
    progress: Any,
    on_error: Any,
    initializer: Any,
    initargs: Any,
) -> Plan:
    if not callable(function):
        raise TypeError(f"{name}: the function is a {type(function).__name__}, which cannot be called")
    if not iterables:
        raise TypeError(f"{name}: there must be an iterable at least")
    if initializer is not None and not callable(initializer):
        raise TypeError(f"{name}: the initializer is a {type(initializer).__name__}, which cannot be called")
    _check_choice(name, "on", on, get_args(Place))
    _check_choice(name, "on_error", on_error, get_args(OnError))
    for label, number, least in (("workers", workers, 1), ("buffer", buffer, 1), ("chunk", chunk, 1)):
        if number is not None:
            _check_whole(name, label, number, least)
    _check_whole(name, "retries", retries, 0)
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"{name}: timeout must be a number of seconds, not {timeout!r}")
        if not timeout > 0:
            raise ValueError(f"{name}: timeout must be more than 0 seconds, not {timeout!r}")
        if chunk is not None and chunk > 1:
            raise ValueError(f"{name}: with a timeout, which is for each item, chunk must be 1, not {chunk}")
    is_async = is_asynchronous(function)
    if is_async and on != "auto":
        raise ValueError(f"{name}: an asynchronous function runs on an event loop, not on {on!r}")
    if workers is None:
        workers = TASKS if is_async else usable_cpus()
    return Plan(
        function, iterables, on, workers, bool(ordered), buffer, chunk, timeout, retries, bool(progress),
        cast("OnError", on_error), initializer, tuple(initargs), is_async, name,
    )  # fmt: skip


def _together(iterables: tuple[Any, ...]) -> Iterator[Any]:
    """The items; tuples of them if there are several iterables."""
    return iter(iterables[0]) if len(iterables) == 1 else zip(*iterables, strict=False)


def _check_choice(name: str, label: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"{name}: {label} must be one of {', '.join(builtins.map(repr, choices))}, not {value!r}"
        )


def _check_whole(name: str, label: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: {label} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name}: {label} must be {least} at least, not {value}")


def _check_that_nothing_is_blocked() -> None:
    # asyncio takes long to import, and no loop runs before it is.
    asyncio = sys.modules.get("_asyncio")
    # A notebook's cells run in a loop, whether they know it or not.
    if asyncio is not None and asyncio._get_running_loop() is not None and not is_kernel():
        raise RuntimeError(
            "motet.map() would block the event loop of this thread; use 'async for' with motet.amap()"
        )
