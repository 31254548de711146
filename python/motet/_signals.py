"""Signals: `add_signal_handler`, and waits that a signal interrupts.

While a loop runs in the main thread, the interpreter writes the number of each signal that has a Python
handler into a socket that the loop listens to (`signal.set_wakeup_fd`). So a signal ends the loop's wait even
when the system gave it to another thread, and Ctrl-C is never late.
"""

import asyncio
import contextvars
import errno
import inspect
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVarTuple

from ._base import LoopBase

_Arguments = TypeVarTuple("_Arguments")


# The wakeup descriptors of this process's loops.
_wakeup_descriptors: set[int] = set()


def _forget_parents_wakeup() -> None:
    """In a forked child: its signals are not the parent's, which listens at the other end of the socket."""
    if _wakeup_descriptors and threading.current_thread() is threading.main_thread():
        inherited = signal.set_wakeup_fd(-1)
        if inherited not in _wakeup_descriptors:
            signal.set_wakeup_fd(inherited, warn_on_full_buffer=False)
        _wakeup_descriptors.clear()


os.register_at_fork(after_in_child=_forget_parents_wakeup)


def _ignore(signum: int, frame: object) -> None:
    """Stands in as the Python handler: the loop hears of the signal by the wakeup descriptor."""


class SignalMethods(LoopBase):
    """Signal handling of an event loop."""

    _signal_sockets: tuple[socket.socket, socket.socket] | None
    _signal_handlers: dict[int, tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]]

    # False for a loop that stands still while other code of its thread runs, which may want signals itself.
    _hears_signals = True

    def _listen_to_signals(self) -> int | None:
        """Makes signals wake this loop, in the main thread; returns the wakeup descriptor set before."""
        if threading.current_thread() is not threading.main_thread():
            return None
        if self._signal_sockets is None:
            receiver, sender = socket.socketpair()
            receiver.setblocking(False)
            sender.setblocking(False)
            self._signal_sockets = receiver, sender
            self._add_reader(receiver.fileno(), self._receive_signals, receiver)
        descriptor = self._signal_sockets[1].fileno()
        _wakeup_descriptors.add(descriptor)
        return signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)

    def _stop_listening_to_signals(self, previous: int | None) -> None:
        """Undoes `_listen_to_signals`, unless handlers must hear of signals between two runs."""
        if previous is not None and not self._signal_handlers:
            signal.set_wakeup_fd(previous, warn_on_full_buffer=False)

    def _receive_signals(self, receiver: socket.socket) -> None:
        try:
            numbers = receiver.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        for number in numbers:
            handler = self._signal_handlers.get(number)
            if handler is not None:
                callback, args, context = handler
                self.call_soon(callback, *args, context=context)

    def add_signal_handler(
        self, sig: int, callback: Callable[[*_Arguments], object], *args: *_Arguments
    ) -> None:
        """Has `callback(*args)` called by the loop when the signal arrives. Only in the main thread."""
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        try:
            if self._listen_to_signals() is None:
                raise ValueError("add_signal_handler() works only in the main thread")
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from None
        self._signal_handlers[sig] = callback, args, contextvars.copy_context()
        try:
            signal.signal(sig, _ignore)
            signal.siginterrupt(sig, False)
        except OSError as error:
            del self._signal_handlers[sig]
            if not self._signal_handlers:
                signal.set_wakeup_fd(-1)
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Gives a signal its default handler back; returns whether there was one of this loop's."""
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        if not self._signal_handlers and not self.is_running():
            signal.set_wakeup_fd(-1)
        return True

    def _close_signals(self) -> None:
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    "skipping signal handlers removal",
                    ResourceWarning,
                    source=self,
                    stacklevel=2,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        if self._signal_sockets is not None:
            receiver, sender = self._signal_sockets
            self._signal_sockets = None
            _wakeup_descriptors.discard(sender.fileno())
            self._remove_reader(receiver.fileno())
            receiver.close()
            sender.close()


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
