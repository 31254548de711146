"""How a pool's calls are sent, and what its users are told of their ends."""

from __future__ import annotations

from concurrent.futures import CancelledError
from itertools import islice
from multiprocessing import pool
from typing import TYPE_CHECKING, Any

from motet._executor.chunks import Outcome
from motet._executor.errors import NotShippable, RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

# Its type stubs leave out what it raises.
_stock: Any = pool


def chunks_of(iterable: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of this many; the last may be shorter."""
    items = iter(iterable)
    while chunk := list(islice(items, size)):
        yield chunk


def outcome(future: Future[Any], timeout: float | None = None) -> tuple[bool, Any]:
    """Whether a call has returned, and its result or exception; waits for it.

    Raises:
        TimeoutError: it has not ended after `timeout` seconds.
    """
    try:
        error = future.exception(timeout)
    except CancelledError as cancelled:
        # The pool was terminated.
        return False, cancelled
    if error is not None:
        return False, _as_multiprocessing_says(error)
    value = future.result()
    if type(value) is not Outcome:
        return True, value
    if value.failures:
        return False, _as_multiprocessing_says(value.failures[0][1].error)
    return True, value.results


def _as_multiprocessing_says(error: BaseException) -> BaseException:
    if not isinstance(error, NotShippable):
        return error
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        told: BaseException = _stock.MaybeEncodingError(error, "(it stayed in the worker)")
        return told
    if cause is None:
        return error
    # What pickling has raised; which part it was about is worth knowing too.
    cause.add_note(str(error))
    return cause
