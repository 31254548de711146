"""Finds what it is in a function, argument or result that cannot be sent, and says so."""

from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from .errors import NotShippable

# How deep, and how often, parts are tried.
_DEPTH = 20
_TRIES = 500

_ADVICE = {
    "function": "Make it inside the function or pass it as an argument, or run the function in threads.",
    "argument": "Send what it is made from and make it in the worker, or run the function in threads.",
    "result": "Return what the caller needs of it as plain data.",
}


def name_of(thing: object) -> str:
    """A function's or class's name with its module, for people."""
    name = _attribute(thing, "__qualname__") or _attribute(thing, "__name__") or type(thing).__qualname__
    module = _attribute(thing, "__module__")
    return f"{module}.{name}" if type(module) is str and module != "builtins" else str(name)


def not_shippable(
    value: object, subject: str, role: str, error: BaseException, to_worker: bool = True
) -> NotShippable:
    """An error that names the part of `value` that cannot be sent.

    `subject` is what to call `value`, `role` is "function", "argument" or "result".
    """
    path, part, reason = _find(value, error, to_worker)
    target = "to a worker" if to_worker else "back from the worker"
    kind = name_of(type(part))
    what = f"its {path} is of type {kind}" if path else f"it is of type {kind}"
    return NotShippable(f"cannot send {subject} {target}: {what}: {_said(reason)}. {_ADVICE[role]}")


def not_shippable_arguments(
    function_name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
) -> NotShippable:
    """An error that names the argument, and the part of it, that cannot be sent."""
    to_whom = f" of {function_name}" if function_name else ""
    named = [(f"argument {place}{to_whom}", value) for place, value in enumerate(args, 1)]
    named += [(f"argument {name!r}{to_whom}", value) for name, value in kwargs.items()]
    for subject, value in named:
        problem = _problem(value, True)
        if problem is not None:
            return not_shippable(value, subject, "argument", problem)
    return not_shippable(args, f"the arguments{to_whom}", "argument", error)


def _find(value: object, error: BaseException, to_worker: bool) -> tuple[str, object, BaseException]:
    """The way to the innermost part that fails by itself, that part, and how it fails."""
    path, tries, seen = "", 0, {id(value)}
    for _ in range(_DEPTH):
        for step, part in _parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            tries += 1
            if tries > _TRIES:
                return path, value, error
            problem = _problem(part, to_worker)
            if problem is not None:
                path, value, error = (f"{path}, in it {step}" if path else step), part, problem
                break
        else:
            break
    return path, value, error


def _problem(part: object, to_worker: bool) -> Exception | None:
    from . import by_value

    try:
        by_value.dumps(part, _outside, to_worker=to_worker, nested=True)
    except Exception as error:
        return error
    return None


def _outside(_buffer: object) -> None:
    """Buffers can be sent, and need not be copied to find that out."""


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, MethodType):
        yield "object", value.__self__
        yield "function", value.__func__
    elif isinstance(value, partial):
        yield "function", value.func
        yield "arguments", value.args
        yield "keywords", value.keywords
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"item [{_shown(key)}]", item
            yield f"key {_shown(key)}", key
    elif isinstance(value, list | tuple | set | frozenset):
        for place, item in enumerate(list(value)):
            yield (f"item [{place}]" if isinstance(value, list | tuple) else f"member {_shown(item)}"), item
    elif isinstance(value, type):
        for name, item in list(vars(value).items()):
            if name not in ("__dict__", "__weakref__"):
                yield f"attribute {name!r}", item
    elif isinstance(value, staticmethod | classmethod):
        yield "function", value.__func__
    elif isinstance(value, property):
        for name, function in (("getter", value.fget), ("setter", value.fset), ("deleter", value.fdel)):
            if function is not None:
                yield name, function
    wrapped = _attribute(value, "__wrapped__")
    if wrapped is not None:
        yield "function", wrapped
    owner = _attribute(value, "__self__")
    if owner is not None and not isinstance(value, MethodType | type) and not isinstance(owner, ModuleType):
        yield "object", owner
    if isinstance(value, BaseException):
        for place, item in enumerate(value.args):
            yield f"args[{place}]", item
    if not isinstance(value, type | FunctionType):
        yield from _parts_of_instance(value)


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    from .captures import _ABSENT, contents, global_names

    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        value = contents(cell)
        if value is not _ABSENT:
            yield f"captured variable {name!r}", value
    for name in global_names(function.__code__):
        if name in function.__globals__:
            yield f"global variable {name!r}", function.__globals__[name]
    for place, value in enumerate(function.__defaults__ or (), 1):
        yield f"default value {place}", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"default value of {name!r}", value
    for name, value in vars(function).items():
        yield f"attribute {name!r}", value


def _parts_of_instance(value: object) -> Iterator[tuple[str, object]]:
    attributes = _attribute(value, "__dict__")
    if isinstance(attributes, dict):
        for name, item in list(attributes.items()):
            yield f"attribute {name!r}", item
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                item = _attribute(value, name)
                if item is not None:
                    yield f"attribute {name!r}", item


def _attribute(value: object, name: str) -> Any:
    """An attribute, or None: user code may answer with anything."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    text = text.splitlines()[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
