"""The end of a loop that was made for the green threads of a thread."""

import atexit
import threading
from typing import TYPE_CHECKING

from motet import _motet

if TYPE_CHECKING:
    from motet._loop import EventLoop

# Seconds between two looks for signals.
SLICE = 0.1
# So often a loop that is to stop is given its turn.
TURNS = 100


def run_forever(loop: "EventLoop") -> None:
    """What the greenlet does that runs the loop."""
    loop._hears_signals = False
    if threading.current_thread() is threading.main_thread():
        _look_for_signals(loop)
    loop.run_forever()


def _look_for_signals(loop: "EventLoop") -> None:
    # A signal ends a wait, but not one that is just about to begin.
    loop.call_later(SLICE, _look_for_signals, loop)


def close(loop: "EventLoop") -> None:
    """Stop the loop, which stands in the middle of a callback, and close it; in its thread."""
    for _ in range(TURNS):
        if not loop.is_running():
            loop.close()
            return
        loop.stop()
        try:
            _motet._give_way()
        except RuntimeError:
            # It has ended.
            continue


def close_at_exit(loop: "EventLoop") -> None:
    """The main thread's ends with the program; others are closed by `motet.green.run`."""
    if threading.current_thread() is threading.main_thread():
        atexit.register(close, loop)
