"""How handles look to people: `repr` and origins, in asyncio's words."""

import sys
from asyncio import format_helpers, tasks
from collections.abc import Callable
from traceback import StackSummary
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._motet import Handle


def origin() -> StackSummary:
    """The frames of the program that schedules a callback; for debug mode."""
    return format_helpers.extract_stack(sys._getframe(1))


def describe(handle: "Handle") -> str:
    """What `repr(handle)` returns."""
    return handle._description or _describe(handle, handle._callback, handle._args)


def describe_call(handle: "Handle", callback: Callable[..., object], arguments: tuple[Any, ...]) -> str:
    """A callback that runs or has run: its task, if it is a step of one."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, tasks.Task):
        return repr(task)
    return _join([type(handle).__name__], handle, callback, arguments)


def failure(handle: "Handle", callback: Callable[..., object], arguments: tuple[Any, ...]) -> str:
    """The message for an exception that a callback has raised. Has the handle remember how it looked."""
    handle._note_description(_describe(handle, callback, arguments))
    return f"Exception in callback {format_helpers._format_callback_source(callback, arguments)}"


def _describe(
    handle: "Handle", callback: Callable[..., object] | None, arguments: tuple[Any, ...] | None
) -> str:
    parts = [type(handle).__name__]
    if handle.cancelled():
        parts.append("cancelled")
    if when := getattr(handle, "when", None):
        parts.append(f"when={when()}")
    return _join(parts, handle, callback, arguments)


def _join(
    parts: list[str],
    handle: "Handle",
    callback: Callable[..., object] | None,
    arguments: tuple[Any, ...] | None,
) -> str:
    if callback is not None:
        parts.append(format_helpers._format_callback_source(callback, arguments or ()))
    if frames := handle._source_traceback:
        parts.append(f"created at {frames[-1].filename}:{frames[-1].lineno}")
    return f"<{' '.join(parts)}>"
