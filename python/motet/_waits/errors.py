"""What goes wrong with channels and waits, as exceptions."""

import threading

from motet._errors import MotetError

__all__ = ["BrokenBarrier", "Cancelled", "Closed", "Empty", "Full", "WouldBlock"]


class Closed(MotetError):
    """The channel is closed, and nothing is left in it. `__cause__` is what it was closed with."""


class Full(MotetError):
    """There is no room in the channel now."""


class Empty(MotetError):
    """There is nothing in the channel now."""


class WouldBlock(MotetError, RuntimeError):
    """A call would have blocked a thread whose event loop runs; the message names the call to await."""


class BrokenBarrier(MotetError, threading.BrokenBarrierError):
    """The barrier was broken: by `abort()` or `reset()`, or because somebody stopped waiting at it."""


class Cancelled(BaseException):
    """The scope in which a thread or green thread waits was cancelled; let it pass.

    Not an `Exception`, so that a block that handles errors does not take it for one; as asyncio's and trio's.
    """
