"""Workers that are threads of this process, each with an interpreter of its own.

Calls travel as to processes, and end as on threads: what happens to them is in the core.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from . import interpreter
from .functions import FunctionTable
from .interpreter import Interpreter
from .shipping import dump_call
from .threads import Crew, Setup, ThreadWorkers

if TYPE_CHECKING:
    from collections.abc import Callable

    from motet import _motet

    from .calls import Call
    from .futures import CallFuture

_crews: weakref.WeakSet[InterpreterCrew] = weakref.WeakSet()


class InterpreterCrew(Crew):
    """The threads of a pool and their interpreters: each is made by its thread, and closed by it."""

    def __init__(self, setup: Setup, name: str) -> None:
        super().__init__(setup, name)
        first = setup.initializer
        self._first = None if first is None else dump_call((first, *setup.initargs), {})
        self.interpreters: dict[int, Interpreter] = {}
        _crews.add(self)

    def _target(self, pool: _motet.ThreadPool) -> Callable[[], None]:
        return partial(self._work, pool)

    def _work(self, pool: _motet.ThreadPool) -> None:
        try:
            pool.work()
        finally:
            made = self.interpreters.pop(get_ident(), None)
            if made is not None:
                made.close()

    def initialize(self) -> None:
        """What a worker does first, in its thread."""
        made = self.interpreters[get_ident()] = Interpreter()
        if self._first is not None:
            made.initialize(self._first)

    def run(self, function: int, blob: bytes, data: bytes) -> Any:
        """In a worker's thread: run a call in its interpreter."""
        return self.interpreters[get_ident()].call(function, blob, data)

    def interrupt(self, identity: int) -> None:
        """A thread is to raise `CallStopped`, and perhaps waits for its interpreter."""
        made = self.interpreters.get(identity)
        if made is not None:
            made.wake()


class _Sender:
    """Makes calls what can be sent. It does not know the workers, which know it."""

    def __init__(self, pool: _motet.ThreadPool, crew: InterpreterCrew) -> None:
        self._submit = pool.submit
        self._run = crew.run
        self._functions = FunctionTable()

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call. Raises `NotShippable` for what cannot be sent."""
        entry = self._functions.enter(function)
        if entry.number == 0:
            arguments = (function, *arguments)
        data = dump_call(arguments, keywords)
        # Interpreters forget by themselves.
        self._functions.take_forgotten()
        future: CallFuture[Any] = self._submit(self._run, (entry.number, entry.blob, data), {}, call)
        return future


class InterpreterWorkers(ThreadWorkers):
    """Up to `count` worker threads with an interpreter each; see `ThreadWorkers`."""

    ships = True

    def __init__(self, count: int, setup: Setup, name: str) -> None:
        """As `ThreadWorkers`.

        Raises:
            NotShippable: the initializer, or one of its arguments, cannot be sent.
        """
        super().__init__(count, setup, name, InterpreterCrew)

    def _begin(self) -> None:
        super()._begin()
        assert isinstance(self.crew, InterpreterCrew)
        self.submit = _Sender(self.pool, self.crew).submit

    def statistics(self) -> dict[str, int]:
        """As of threads, and how many `interpreters` there are, those of abandoned calls included."""
        assert isinstance(self.crew, InterpreterCrew)
        return {**super().statistics(), "interpreters": len(self.crew.interpreters)}


def _leave() -> None:
    """At the program's end: workers that nobody has shut down end as well."""
    for crew in list(_crews):
        for thread in crew.alive():
            # In between, it may be abandoned.
            while thread.is_alive() and thread in crew.alive():
                thread.join(0.1)
    interpreter.leave()


def _warn_of_fork() -> None:
    """The interpreter itself crashes as it clears those of the parent; nothing here could prevent it."""
    if interpreter.there_are_some():
        problem = (
            "the process forks while it has interpreters, which ends the child by SIGSEGV in CPython 3.14: "
            "shut the executor down first, use on='processes', or start the child by 'spawn' or 'forkserver'"
        )
        warnings.warn(problem, RuntimeWarning, stacklevel=2)


# After all that the executors wait for at the program's end.
atexit.register(_leave)
os.register_at_fork(before=_warn_of_fork, after_in_child=interpreter.forget)
