"""Exceptions as bytes, from a worker to the program that called. None is lost, and none stops the worker."""

from __future__ import annotations

import os
from _pickle import dumps, loads

from .errors import RemoteError, RemoteTraceback

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

# Longer texts are cut in what stands for an exception that cannot be sent.
_LONGEST = 10_000
_HERE = os.path.dirname(os.path.abspath(__file__))


def dump_exception(error: BaseException) -> bytes:
    """An exception with its traceback as bytes. Never fails."""
    text = _guarded(_traceback_text, error) or f"{_type_name(error)} (its traceback could not be told)\n"
    notes = _guarded(_notes, error) or []
    arguments = _guarded(_argument_texts, error) or ()
    account = (_type_name(error), _text(str, error), arguments, text, notes)
    body, reason = _dump(error)
    return dumps((body, reason, account), 5)


def load_exception(data: bytes) -> BaseException:
    """The exception, with the worker's traceback as its `__cause__`.

    A `RemoteError` stands for one that could not be sent, or not be made again in this process.
    """
    body, reason, (type_name, message, arguments, text, notes) = loads(data)
    error: BaseException | None = None
    if body is not None:
        try:
            made = loads(body)
        except Exception as problem:
            reason = f"it cannot be made here: {type(problem).__name__}: {_text(str, problem)}"
        else:
            if isinstance(made, BaseException):
                error = made
            else:
                reason = f"it became a {type(made).__qualname__} here"
    if error is None:
        error = RemoteError(type_name, message, tuple(arguments), reason)
    if notes and not getattr(error, "__notes__", None):
        _guarded(_set_notes, error, notes)
    error.__cause__ = RemoteTraceback(text)
    return error


def _dump(error: BaseException) -> tuple[bytes | None, str]:
    """The exception's own pickle, or why there is none."""
    from . import by_value

    try:
        return by_value.dumps(error, to_worker=False), ""
    except BaseException as problem:
        reason = f"{type(problem).__name__}: {_text(str, problem)}"
    if isinstance(error, BaseExceptionGroup):
        try:
            return by_value.dumps(_with_stand_ins(error), to_worker=False), ""
        except BaseException as problem:
            reason = f"{type(problem).__name__}: {_text(str, problem)}"
    return None, reason


def _with_stand_ins(group: BaseExceptionGroup[Any]) -> BaseExceptionGroup[Any]:
    """The group with a `RemoteError` in the place of each exception that cannot be sent."""
    members: list[BaseException] = []
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            members.append(_with_stand_ins(member))
            continue
        body, reason = _dump(member)
        members.append(member if body is not None else _stand_in(member, reason))
    made = group.derive(members)
    _guarded(_set_notes, made, _guarded(_notes, group) or [])
    return made


def _stand_in(error: BaseException, reason: str) -> RemoteError:
    return RemoteError(_type_name(error), _text(str, error), _guarded(_argument_texts, error) or (), reason)


def _traceback_text(error: BaseException) -> str:
    import traceback

    told = traceback.TracebackException(type(error), error, _below_motet(error.__traceback__))
    return "".join(told.format())


def _below_motet(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where motet called the user's function; all of it if that is nowhere."""
    below = trace
    while below is not None and os.path.dirname(below.tb_frame.f_code.co_filename) == _HERE:
        below = below.tb_next
    return below if below is not None else trace


def _notes(error: BaseException) -> list[str]:
    return [_text(str, note) for note in getattr(error, "__notes__", ())]


def _set_notes(error: BaseException, notes: list[str]) -> None:
    for note in notes:
        error.add_note(note)


def _argument_texts(error: BaseException) -> tuple[str, ...]:
    return tuple(_text(repr, argument) for argument in error.args)


def _type_name(error: BaseException) -> str:
    cls = type(error)
    module = cls.__module__
    return f"{module}.{cls.__qualname__}" if module != "builtins" else cls.__qualname__


def _text(make: Any, thing: object) -> str:
    """`str()` or `repr()` of what may fail at it, or answer at length."""
    try:
        text = make(thing)
        # A subclass of str could have a will of its own.
        text = str.__str__(text) if type(text) is str else str.__str__(text)[:]
    except BaseException as problem:
        return f"<{type(thing).__qualname__} whose {make.__name__}() raised {type(problem).__name__}>"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _guarded(step: Any, *arguments: Any) -> Any:
    """What a step of the account gives, or None: user code runs in it, which may raise anything."""
    try:
        return step(*arguments)
    except BaseException:
        return None
