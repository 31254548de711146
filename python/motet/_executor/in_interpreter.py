"""What runs in an interpreter of its own: takes calls, and sends back what becomes of them.

It loads without the core, which only the main interpreter can import. The calls run in a thread that lives
here: to enter an interpreter for each call would take a hundred times longer than to send it one.
"""

import os
import re
import sys
from _thread import get_ident, start_joinable_thread  # type: ignore[attr-defined]
from importlib import import_module
from threading import RLock
from typing import Any

from . import namespaces
from .calls import CallStopped
from .shipping import dump_result, load_call, load_function
from .travelling_errors import dump_exception

# In the place of a function's number: what else a message may mean. INITIALIZE: the call of an initializer.
END, MARK, FORGET, INITIALIZE = -1, -2, -3, -4
# What became of a call.
RETURNED, RAISED, STOPPED, PASSED = range(4)

# What Python says of a compiled module that works in the main interpreter alone.
_REFUSAL = re.compile(r"module (\S+) does not support loading in subinterpreters")


class _Server:
    """Runs the calls, one after the other, in one thread; another may have one stopped."""

    def __init__(self, calls: Any, answers: Any, called: int, answered: int) -> None:
        self._calls = calls
        self._answers = answers
        self._called = called
        self._answered = answered
        self._empty: Any = import_module("concurrent.interpreters").QueueEmpty
        # By number; bytes until the first call.
        self._functions: dict[int, Any] = {}
        self._thread = 0
        # The call that may be made to raise, and one that is not to begin.
        self._current = 0
        self._unwanted = 0
        self._struck = False
        self._lock: Any = RLock()

    def serve(self) -> None:
        """Run calls until the end."""
        self._thread = get_ident()
        while True:
            number, function, blob, data = self._next()
            if function == END:
                return
            if function == FORGET:
                self._functions.clear()
                continue
            if blob is not None:
                self._functions[function] = blob
            answer = (PASSED, b"") if function == MARK else self._answer(number, function, data)
            try:
                self._answers.put((number, *answer))
            except BaseException as error:
                self._answers.put((number, RAISED, dump_exception(error)))
            os.eventfd_write(self._answered, 1)

    def stop(self, number: int) -> None:
        """Have the call raise `CallStopped`, or not begin. For another thread, once for each call."""
        self._unwanted = number
        with self._lock:
            if self._current == number:
                self._struck = True
                _raise_in(self._thread, CallStopped)

    def _next(self) -> Any:
        while True:
            try:
                return self._calls.get_nowait()
            except self._empty:
                os.eventfd_read(self._called)

    def _answer(self, number: int, function: int, data: bytes) -> tuple[int, bytes]:
        answer = STOPPED, b""
        ran = False
        # The exception may come at any line here, but once.
        while True:
            try:
                if not ran:
                    ran = True
                    answer = self._run(number, function, data)
                self._rest()
                return answer
            except CallStopped:
                pass

    def _run(self, number: int, function: int, data: bytes) -> tuple[int, bytes]:
        self._current = number
        if self._unwanted == number:
            return STOPPED, b""
        try:
            if function == INITIALIZE:
                return self._initialize(data)
            called = self._functions[function]
            if type(called) is bytes:
                called = self._functions[function] = load_function(called)
            args, kwargs = load_call(data)
            return RETURNED, dump_result(called(*args, **kwargs))
        except CallStopped:
            raise
        except BaseException as error:
            return RAISED, dump_exception(_explained(error))

    def _initialize(self, data: bytes) -> tuple[int, bytes]:
        with namespaces.of_initializer():
            (initializer, *args), _ = load_call(data)
        initializer(*args)
        namespaces.keep()
        return RETURNED, dump_result(None)

    def _rest(self) -> None:
        """From here on nothing raises the exception."""
        with self._lock:
            self._current = 0
        # Once more, if the exception came between the lock and its use.
        while self._lock._is_owned():
            self._lock.release()
        if self._struck:
            self._struck = False
            _raise_in(self._thread, None)


_server: _Server
_handle: Any = None


def begin(arguments: list[str], calls: Any, answers: Any, called: int, answered: int) -> None:
    """Start the thread that serves. Queues and event counters: for calls, and for what becomes of them."""
    global _server, _handle
    sys.argv[:] = arguments
    for stream in (sys.stdout, sys.stderr):
        # Whole lines, as they are written.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    _server = _Server(calls, answers, called, answered)
    # As a daemon, which no exit waits for: a call may never end.
    _handle = start_joinable_thread(_server.serve, daemon=True)


def stop(number: int) -> None:
    """Have a call stopped."""
    _server.stop(number)


def join() -> None:
    """Wait until the thread has ended that serves."""
    _handle.join()


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    import ctypes

    made = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), made)


def _explained(error: BaseException) -> BaseException:
    """The exception; if a module was imported that cannot be here, one that says what to do."""
    found: BaseException | None = error if isinstance(error, ImportError) else None
    for _ in range(20):
        if found is None:
            break
        refusal = _REFUSAL.search(str(found)) if isinstance(found, ImportError) else None
        if refusal is not None:
            module = refusal[1]
            made = ImportError(
                f"{module.partition('.')[0]} cannot be imported in an interpreter of its own, since its "
                f"compiled part {module} does not support that: use an executor on 'processes' or 'threads'",
                name=module,
            )
            made.__cause__ = error
            return made.with_traceback(error.__traceback__)
        found = found.__cause__ or found.__context__
    return error
