"""What a worker does with a chunk of a mapping's items.

This module is imported in the workers as well: `run_shipped` goes there by name.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import starmap
from time import perf_counter
from typing import Any, Literal, NamedTuple

OnError = Literal["raise", "return", "skip"]

# A chunk looks at the clock after its first item, then after ever more, and this many at most.
LONGEST_LOOK = 256
# A function of more bytes goes to each worker once, a smaller one with each chunk, which costs less.
SMALL = 2048

# A function to submit, with its arguments.
Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Task(NamedTuple):
    """What to do with the items of a chunk. `budget` in seconds, 0 for none."""

    several: bool
    on_error: OnError
    retries: int
    budget: float


class Failure:
    """An exception of one item. Between processes it travels as the exceptions of calls do."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        from .travelling_errors import dump_exception

        return _load_failure, (dump_exception(self.error),)


def _load_failure(data: bytes) -> Failure:
    from .travelling_errors import load_exception

    return Failure(load_exception(data))


class Outcome:
    """What became of a chunk.

    `done` items were called, in `seconds`. `results` has one for each, but for those that failed: these have
    None there with `on_error="return"`, and else nothing. `failures` has the failed ones' places.
    """

    __slots__ = ("_dumped", "_on_error", "done", "failures", "results", "seconds")

    def __init__(
        self,
        seconds: float,
        done: int,
        results: list[Any],
        failures: list[tuple[int, Failure]],
        on_error: OnError = "raise",
    ) -> None:
        self.seconds = seconds
        self.done = done
        self.results = results
        self.failures = failures
        self._on_error = on_error
        self._dumped = False

    def __reduce__(self) -> Any:
        # A second time may mean that the first has failed: one result shall not take the others with it.
        if self._dumped:
            self._part_with_the_unshippable()
        self._dumped = True
        return Outcome, (self.seconds, self.done, self.results, self.failures)

    def _part_with_the_unshippable(self) -> None:
        if _can_be_dumped(self.results):
            return
        from .shipping import dump_result

        failed = {place for place, _ in self.failures}
        places = [n for n in range(self.done) if n not in failed or self._on_error == "return"]
        kept: list[Any] = []
        for place, result in zip(places, self.results, strict=False):
            if _can_be_dumped(result):
                kept.append(result)
                continue
            try:
                kept.append(Packed(dump_result(result)))
            except Exception as error:
                self.failures.append((place, Failure(error)))
                if self._on_error == "raise":
                    self.done = place
                    break
                if self._on_error == "return":
                    kept.append(None)
        self.results = kept


class Packed:
    """A result that is a pickle already; loaded, it is the result."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        from .shipping import load_result

        return load_result, (self.data,)


def _can_be_dumped(value: object) -> bool:
    from pickle import dumps

    try:
        dumps(value, 5)
    except Exception:
        return False
    return True


def run_chunk(function: Callable[..., Any], items: list[Any], task: Task) -> Outcome:
    """Call the function with the items, in order.

    With `on_error="raise"` the first failure ends the chunk; an exception that is no `Exception` always does.
    """
    several, on_error, retries, budget = task
    calls: Any = starmap if several else map
    results: list[Any] = []
    failures: list[tuple[int, Failure]] = []
    count = len(items)
    look = 1 if budget else count
    done = 0
    begin = now = perf_counter()
    while done < count:
        part = items if look == count and not done else items[done : done + look]
        before = len(results)
        try:
            # What was called before a failure stays in the list.
            results.extend(calls(function, part))
            called = len(results) - before
            if called < len(part):
                raise _stopped_iteration()
        except BaseException as error:
            if _is_stop(error):
                raise
            done += len(results) - before
            failure = _try_again(function, items[done], several, retries, error, results)
            if failure is not None:
                failures.append((done, Failure(failure)))
                if on_error == "raise" or not isinstance(failure, Exception):
                    break
                if on_error == "return":
                    results.append(None)
            done += 1
        else:
            done += called
        now = perf_counter()
        if budget:
            if now - begin > budget:
                break
            look = min(4 * look, LONGEST_LOOK)
    return Outcome(max(now - begin, 0.0), done, results, failures, on_error)


def _try_again(
    function: Callable[..., Any],
    item: Any,
    several: bool,
    retries: int,
    error: BaseException,
    results: list[Any],
) -> BaseException | None:
    """The exception of the last attempt; None when one has succeeded."""
    while retries > 0 and isinstance(error, Exception):
        retries -= 1
        try:
            results.append(function(*item) if several else function(item))
        except StopIteration:
            error = _stopped_iteration()
        except BaseException as another:
            if _is_stop(another):
                raise
            error = another
        else:
            return None
    # Without the frame here, which holds the chunk, and whose user did not write it.
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace is not None else None)


def _stopped_iteration() -> RuntimeError:
    # As in a generator: passed on, it would end a loop in silence.
    return RuntimeError("the function raised StopIteration")


def _is_stop(error: BaseException) -> bool:
    """Whether the call as a whole is to end, by the word of whoever runs it."""
    if isinstance(error, Exception):
        return False
    from .calls import CallStopped

    return isinstance(error, CallStopped)


# The functions of recent mappings, in a worker. Few: they may hold much.
_loaded: dict[bytes, Callable[..., Any]] = {}
_KEPT = 4


def run_shipped(data: bytes, items: list[Any], task: Task) -> Outcome:
    """In a worker: `run_chunk` with the function that `dump_function` made these bytes of."""
    function = _loaded.get(data)
    if function is None:
        from .shipping import load_call

        if len(_loaded) >= _KEPT:
            _loaded.clear()
        (function,), _ = load_call(data)
        _loaded[data] = function
    return run_chunk(function, items, task)


def dump_function(function: Callable[..., Any]) -> bytes:
    """The function as it is now, once for all chunks.

    Raises `NotShippable` for one that cannot be sent.
    """
    from .shipping import dump_call

    try:
        return dump_call((function,), {})
    except Exception as error:
        from . import culprits

        raise culprits.not_shippable(function, culprits.name_of(function), "function", error) from error


def calls_of(function: Callable[..., Any], task: Task, ships: bool) -> Callable[[list[Any]], Call]:
    """What makes a call of a chunk's items. If it `ships`, the function goes to the workers as it is now.

    Raises `NotShippable` for a function that cannot be sent, if it is to be.
    """
    if not ships:
        return lambda items: (run_chunk, (function, items, task))
    data = dump_function(function)
    if len(data) <= SMALL:
        return lambda items: (run_shipped, (data, items, task))

    # With the bytes in it, it is sent by value, and so once to each worker.
    def run_large(items: list[Any], task: Task) -> Outcome:
        return run_shipped(data, items, task)

    return lambda items: (run_large, (items, task))
