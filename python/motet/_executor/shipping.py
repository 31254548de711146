"""Calls and results as bytes, between a program and its workers.

Plain pickle does nearly all. Where it fails, or would send by name what a worker cannot import, cloudpickle
sends by value. Buffers of arrays and the like (pickle protocol 5) are handed to whoever moves them.
"""

from __future__ import annotations

import sys

# The core of pickle: its Python half takes long to import, and offers the same names.
from _pickle import PickleBuffer, dumps, loads

from .modules import refers_by_value

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    _BufferCallback = Callable[[PickleBuffer], object]

__all__ = ["IN_BAND", "dump_call", "dump_result", "load_call", "load_function", "load_result"]

# Buffers of fewer bytes stay in the pickle.
IN_BAND = 16 << 10

# Nothing of these refers to a module or has a buffer.
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


def dump_call(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    buffer_callback: _BufferCallback | None = None,
    function_name: str | None = None,
) -> bytes:
    """A call's arguments as bytes.

    `buffer_callback` gets each buffer of `IN_BAND` bytes or more, in order, once the dump has succeeded;
    without it they are part of the bytes. Raises `NotShippable`, which names the argument (and the function,
    if its name is given).
    """
    if not kwargs:
        for value in args:
            if type(value) not in _PLAIN:
                break
        else:
            return dumps(args, 5) if args else b""
    content = [args, kwargs] if kwargs else args
    data = _dump_plainly(content, buffer_callback)
    if data is not None:
        return data
    try:
        return _dump_by_value(content, buffer_callback, to_worker=True)
    except Exception as error:
        from . import culprits

        raise culprits.not_shippable_arguments(function_name, args, kwargs, error) from error


def load_call(data: bytes, buffers: Sequence[Any] = ()) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments; `buffers` are what `dump_call` handed over, in order."""
    if not data:
        return (), {}
    loaded = loads(data, buffers=buffers) if buffers else loads(data)
    if type(loaded) is tuple:
        return loaded, {}
    return loaded[0], loaded[1]


def dump_result(value: Any, buffer_callback: _BufferCallback | None = None) -> bytes:
    """A worker's result as bytes; buffers as in `dump_call`.

    Instances of classes that came from the parent become instances of the parent's own classes there.
    Raises `NotShippable`, which names the part of the result.
    """
    if type(value) in _PLAIN:
        return dumps(value, 5)
    data = _dump_plainly(value, buffer_callback)
    if data is not None:
        return data
    try:
        return _dump_by_value(value, buffer_callback, to_worker=False)
    except Exception as error:
        from . import culprits

        raise culprits.not_shippable(value, "the result", "result", error, to_worker=False) from error


def load_result(data: bytes, buffers: Sequence[Any] = ()) -> Any:
    """A call's result; `buffers` are what `dump_result` handed over, in order."""
    return loads(data, buffers=buffers) if buffers else loads(data)


def load_function(blob: bytes) -> Callable[..., Any]:
    """The function of a `FunctionTable`'s entry, in the worker. May import what the function needs."""
    function: Callable[..., Any] = loads(blob)
    return function


def _dump_plainly(value: object, buffer_callback: _BufferCallback | None) -> bytes | None:
    """What pickle makes of it; None if that fails or would not mean the same in another process."""
    try:
        if buffer_callback is None:
            data = dumps(value, 5)
            return None if refers_by_value(data) else data
        outside: list[PickleBuffer] = []
        dump = _dump_with()
        data = dump(value, 5, buffer_callback=outside.append)
        if refers_by_value(data):
            return None
        if not outside:
            return data
        # Most calls have no buffers at all, and should not pay for a callback in Python.
        small = sum(map(_is_small, outside))
        if small == len(outside):
            return dump(value, 5)
        if small:
            outside.clear()
            data = dump(value, 5, buffer_callback=_sorting(outside))
    except Exception:
        return None
    _hand_over(outside, buffer_callback)
    return data


def _dump_with() -> Callable[..., bytes]:
    """`pickle.dumps`, or what knows more than that, once a library is loaded of which there is more."""
    loaded = sys.modules
    if "pandas" in loaded or "polars" in loaded or "pyarrow" in loaded:
        from . import frames

        return frames.dumps
    return dumps


def _dump_by_value(value: object, buffer_callback: _BufferCallback | None, to_worker: bool) -> bytes:
    from . import by_value

    outside: list[PickleBuffer] = []
    callback = None if buffer_callback is None else _sorting(outside)
    data = by_value.dumps(value, callback, to_worker=to_worker)
    _hand_over(outside, buffer_callback)
    return data


def _is_small(buffer: PickleBuffer) -> bool:
    with memoryview(buffer) as view:
        return view.nbytes < IN_BAND


def _sorting(outside: list[PickleBuffer]) -> _BufferCallback:
    """Collects the large buffers; pickle keeps those for which the answer is true."""

    def sort(buffer: PickleBuffer) -> bool:
        if _is_small(buffer):
            return True
        outside.append(buffer)
        return False

    return sort


def _hand_over(outside: list[PickleBuffer], buffer_callback: _BufferCallback | None) -> None:
    """Only now: an attempt that failed would have handed over the same buffers."""
    if buffer_callback is not None:
        for buffer in outside:
            buffer_callback(buffer)
