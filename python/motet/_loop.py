"""`motet.EventLoop`: asyncio's event loop over motet's Rust core.

`asyncio.BaseEventLoop` supplies what is neither hot nor particular to a system (name look-up, executors,
exception handler, happy eyeballs, asynchronous generators), as its documentation recommends for loops of
one's own. What runs often comes from `_motet.Loop`, which stands before it in the order of resolution.
"""

import asyncio
import socket
import sys
import threading
import weakref
from asyncio import events
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, Self

from . import _handles, _motet, _tls
from ._datagrams import DatagramMethods
from ._pipes import PipeMethods
from ._pool_calls import PoolMethods
from ._processes import ProcessMethods
from ._sendfile import SendfileMethods
from ._servers import ServerMethods
from ._signals import SignalMethods
from ._sockets import SocketMethods
from ._tls import TlsMethods

_HOT_METHODS = ("call_soon", "call_soon_threadsafe")


# The core's handles stand in for asyncio's, and are not derived from them.
class EventLoop(  # type: ignore[misc]
    ServerMethods,
    PipeMethods,
    PoolMethods,
    ProcessMethods,
    DatagramMethods,
    SendfileMethods,
    SignalMethods,
    SocketMethods,
    TlsMethods,
    asyncio.BaseEventLoop,
):
    """An event loop for one thread, with the whole interface of `asyncio.AbstractEventLoop`.

    Not thread-safe, but for `call_soon_threadsafe()`: other methods raise `RuntimeError` when another thread
    runs the loop, or send what they were given to it where that can be done (`call_soon`, `call_later`).
    """

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        # Before there is a loop that would have to be closed.
        way = _tls.choose_way()
        loop = super().__new__(cls, *args, **kwargs)
        loop._tls_way = way
        return loop

    def __init__(self) -> None:
        self._signal_sockets = None
        self._signal_handlers = {}
        self._unix_paths: dict[socket.socket, tuple[str, int]] = {}
        self._launchers = None
        self._processes_started = 0
        self._transports = weakref.WeakValueDictionary()
        asyncio.BaseEventLoop.__init__(self)
        # A bound method in the instance's dictionary is found faster than the class's: the interpreter cannot
        # specialise look-ups of methods on instances of extended C classes. `close()` breaks the cycle.
        for name in _HOT_METHODS:
            if getattr(type(self), name) is getattr(_motet.Loop, name):
                self.__dict__[name] = getattr(self, name)

    def run_forever(self) -> None:
        """Runs until `stop()` is called."""
        self._check_closed()
        self._check_running()
        hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        wakeup = None
        try:
            self._set_coroutine_origin_tracking(self.get_debug())
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            if self._hears_signals:
                wakeup = self._listen_to_signals()
            self._run()
        finally:
            self._stopping = False
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)
            self._stop_listening_to_signals(wakeup)

    def close(self) -> None:
        """Closes the loop: drops what waits, and its descriptors. It must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        # Those that still wait run to their ends now.
        _motet._end_green_threads(self)
        for name in _HOT_METHODS:
            self.__dict__.pop(name, None)
        self._close_signals()
        self._close_launchers()
        asyncio.BaseEventLoop.close(self)
        self._shut()

    def statistics(self) -> dict[str, Any]:
        """What the loop has done so far; may be called at any time, also after `close()`.

        Counts: `turns` (rounds of callbacks), `polls`, `callbacks`, `timers_fired`, `tasks_started`,
        `connections_opened`, `connections_accepted`, `processes_started`, `bytes_received`, `bytes_sent`, and
        what waits now: `callbacks_ready`, `timers_pending`, `descriptors`. Seconds: `busy_seconds` and
        `idle_seconds` (outside and inside waits), `lag` (`p50`, `p99`, `max`, `count` of the busy stretches
        between two polls: how long an event may have waited). `files`: by which means this loop uses files,
        "io_uring" or "threads", if it has used any. `blocked`: the places where one callback held the loop
        for longer than `blocked_threshold`, longest first, each with `function`, `file`, `line`, `seconds`,
        `ended` and `stack` (function, file, line; innermost first). `tls`: how TLS is done, `native` (the
        interpreter's OpenSSL, driven from Rust) or `memory-bio` (the standard library's way).

        Raises `RuntimeError` when another thread runs the loop.
        """
        return {**self._counters(), "processes_started": self._processes_started, "tls": self._tls_way}

    def _callback_failed(
        self,
        handle: _motet.Handle,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        error: BaseException,
    ) -> None:
        details: dict[str, Any] = {
            "message": _handles.failure(handle, callback, arguments),
            "exception": error,
            "handle": handle,
        }
        if handle._source_traceback:
            details["source_traceback"] = handle._source_traceback
        self.call_exception_handler(details)

    def _step_failed(self, task: _motet.Task[Any], error: BaseException) -> None:
        # Without the task: the handler would run in its context, which may be what cannot be entered.
        self.call_exception_handler({"message": f"Exception in a step of {task!r}", "exception": error})

    def _callback_took(
        self,
        handle: _motet.Handle,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        seconds: float,
    ) -> None:
        if seconds >= self.slow_callback_duration:
            name = _handles.describe_call(handle, callback, arguments)
            logger.warning("Executing %s took %.3f seconds", name, seconds)


def new_event_loop() -> EventLoop:
    """Makes a motet event loop; fits wherever asyncio takes a `loop_factory`."""
    return EventLoop()
