"""Initializers with what only a process that is being started may be given: multiprocessing's queues, locks.

multiprocessing lets its objects be pickled while it starts a process, which an object of its own stands for;
the descriptors in them are handed over then. Here motet's workers are such processes.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

from . import namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Descriptors:
    """Duplicates of descriptors that each new worker is sent; closed with this object.

    Locks travel by a name that is gone with them: `arguments` keeps them alive for workers to come.
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments
        self.numbers: list[int] = []
        weakref.finalize(self, _close, self.numbers).atexit = False

    # What multiprocessing calls, by its names.

    def duplicate_for_child(self, descriptor: int) -> int:
        """Keep a duplicate; returns its place in `numbers`."""
        self.numbers.append(os.dup(descriptor))
        return len(self.numbers) - 1

    def DupFd(self, place: int) -> Inherited:
        """What stands for the descriptor in the pickle."""
        return Inherited(place)


class Inherited:
    """Stands for a descriptor that has come with the worker."""

    def __init__(self, place: int) -> None:
        self.place = place

    def detach(self) -> int:
        """The descriptor, in the worker; now the caller's."""
        return os.dup(_inherited[self.place])


# In a worker: the descriptors that came for its initializer.
_inherited: list[int] = []


def dump(initializer: Callable[..., object], arguments: tuple[Any, ...]) -> tuple[bytes, Descriptors]:
    """An initializer as bytes, with the descriptors that its worker must be sent."""
    from .by_value import dumps

    descriptors = Descriptors(arguments)
    context: Any = sys.modules.get("multiprocessing.context")
    if context is None:
        return dumps((initializer, arguments)), descriptors
    before = context.get_spawning_popen()
    context.set_spawning_popen(descriptors)
    try:
        return dumps((initializer, arguments)), descriptors
    finally:
        context.set_spawning_popen(before)


def load(data: bytes, descriptors: Iterable[int]) -> tuple[Callable[..., object], tuple[Any, ...]]:
    """In a worker: the initializer and its arguments. Takes the descriptors over."""
    from _pickle import loads

    _inherited[:] = descriptors
    try:
        with namespaces.of_initializer():
            initializer, arguments = loads(data)
    finally:
        _close(_inherited)
        _inherited.clear()
    return initializer, arguments


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
