"""An interpreter of its own, as the worker thread that has it sees it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from importlib import import_module
from typing import Any

from . import in_interpreter
from .calls import CallStopped
from .functions import BYTES_KEPT, MEANINGS_KEPT
from .in_interpreter import END, FORGET, INITIALIZE, MARK, RETURNED, STOPPED
from .shipping import load_result
from .travelling_errors import load_exception

# Those that are not closed, and whether the program's end has come, which leaves them alone.
_living: set[Interpreter] = set()
_closing: set[Interpreter] = set()
_over = False
_state = threading.Condition()


class Interpreter:
    """Runs calls in an interpreter. For one thread, except `wake`."""

    def __init__(self) -> None:
        interpreters: Any = import_module("concurrent.interpreters")
        self._failed: Any = interpreters.ExecutionFailed
        self._empty: Any = interpreters.QueueEmpty
        self._calls = interpreters.create_queue()
        self._answers = interpreters.create_queue()
        self._lock = threading.Lock()
        self._number = 0
        # The functions that are there, with their sizes.
        self._known: dict[int, int] = {}
        self._serves = False
        self._called, self._answered = os.eventfd(0), os.eventfd(0)
        self._interpreter = interpreters.create()
        _living.add(self)
        path = [folder for folder in sys.path if isinstance(folder, str)]
        self._interpreter.exec(f"import sys; sys.path[:] = {path!r}")
        self._interpreter.call(
            in_interpreter.begin, list(sys.argv), self._calls, self._answers, self._called, self._answered
        )
        self._serves = True

    def initialize(self, data: bytes) -> None:
        """Have the initializer called that this call is of; raises what that does."""
        self._call(INITIALIZE, None, data)

    def call(self, function: int, blob: bytes, data: bytes) -> Any:
        """What a call returns, or raises. `blob` is the function's, which is sent once."""
        if function in self._known:
            return self._call(function, None, data)
        self._make_room(len(blob))
        return self._call(function, blob, data)

    def _call(self, function: int, blob: bytes | None, data: bytes) -> Any:
        self._number += 1
        number = self._number
        try:
            self._send(number, function, blob, data)
            if blob is not None:
                self._known[function] = len(blob)
            outcome, answer = self._wait(number)
        except CallStopped:
            self._stop(number)
            raise
        if outcome == RETURNED:
            return load_result(answer)
        raise CallStopped if outcome == STOPPED else load_exception(answer)

    def wake(self) -> None:
        """Have the thread that waits for an answer run Python."""
        with self._lock:
            if self._answered >= 0:
                os.eventfd_write(self._answered, 1)

    def close(self) -> None:
        """End the interpreter; not at the program's end, which waits for none whose call was abandoned."""
        with _state:
            if _over:
                return
            _closing.add(self)
        try:
            if self._serves:
                self._send(0, END, None, b"")
                self._interpreter.call(in_interpreter.join)
            self._interpreter.close()
            _living.discard(self)
            with self._lock:
                os.close(self._called)
                os.close(self._answered)
                self._called = self._answered = -1
        finally:
            with _state:
                _closing.discard(self)
                _state.notify_all()

    def _send(self, number: int, function: int, blob: bytes | None, data: bytes) -> None:
        self._calls.put((number, function, blob, data))
        os.eventfd_write(self._called, 1)

    def _wait(self, number: int) -> tuple[int, bytes]:
        """What became of a call. Answers to earlier ones, which nobody waits for, are passed over."""
        while True:
            try:
                answered, outcome, data = self._answers.get_nowait()
            except self._empty:
                os.eventfd_read(self._answered)
            else:
                if answered == number:
                    return outcome, data

    def _stop(self, number: int) -> None:
        """Have the call stopped, and wait until it has ended, or had not begun.

        The exception may have come at any line: whether it was sent is unknown. So a mark is sent behind it,
        and waited for.
        """
        with contextlib.suppress(self._failed):
            self._interpreter.call(in_interpreter.stop, number)
        self._number += 1
        self._send(self._number, MARK, None, b"")
        self._wait(self._number)

    def _make_room(self, size: int) -> None:
        if len(self._known) >= MEANINGS_KEPT or sum(self._known.values()) + size > BYTES_KEPT:
            self._known.clear()
            self._calls.put((0, FORGET, None, b""))


def leave() -> None:
    """At the program's end: what is closing is waited for; what an abandoned call keeps is left to Python."""
    global _over
    with _state:
        _over = True
        _state.wait_for(lambda: not _closing)
    if _living:
        import warnings

        warnings.filterwarnings("ignore", "remaining subinterpreters", RuntimeWarning)


def there_are_some() -> bool:
    """Whether an interpreter is not closed yet."""
    return bool(_living)


def forget() -> None:
    """In a forked child, which has none of them."""
    global _state
    _state = threading.Condition()
    for interpreter in _living:
        interpreter._lock = threading.Lock()
        os.close(interpreter._called)
        os.close(interpreter._answered)
        interpreter._called = interpreter._answered = -1
    _living.clear()
    _closing.clear()
