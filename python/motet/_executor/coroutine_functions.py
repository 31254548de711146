"""Which functions are asynchronous."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

_COROUTINE = 0x80


def is_asynchronous(function: Any) -> bool:
    """Whether it is a coroutine function. Quick for plain functions: executors ask for every call."""
    kind = type(function)
    if kind is BuiltinFunctionType:
        return False
    # A function can be marked as one, which is an attribute of it.
    if kind is FunctionType and (function.__code__.co_flags & _COROUTINE or not function.__dict__):
        return bool(function.__code__.co_flags & _COROUTINE)
    # It takes long to import, and is rarely wanted.
    from inspect import iscoroutinefunction

    return iscoroutinefunction(function) or iscoroutinefunction(kind.__call__)
