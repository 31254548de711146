"""What goes wrong with channels and waits, as exceptions."""

import threading

from motet._executor.errors import MotetError

__all__ = ["BrokenBarrier", "Closed", "Empty", "Full", "WouldBlock"]


class Closed(MotetError):
    """The channel is closed, and nothing is left in it. `__cause__` is the error that it was closed with, if any."""


class Full(MotetError):
    """There is no room in the channel now."""


class Empty(MotetError):
    """There is nothing in the channel now."""


class WouldBlock(MotetError, RuntimeError):
    """A call that blocks its thread would have waited where an event loop runs; the message names the one to await."""


class BrokenBarrier(MotetError, threading.BrokenBarrierError):
    """The barrier was broken: by `abort()` or `reset()`, or because somebody stopped waiting at it."""
