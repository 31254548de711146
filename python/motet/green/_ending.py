"""The end of a loop that was made for the green threads of a thread."""

import atexit
import threading
from typing import TYPE_CHECKING

from motet import _motet

if TYPE_CHECKING:
    from motet._loop import EventLoop

# So often a loop that is to stop is given its turn.
TURNS = 100


def run_forever(loop: "EventLoop") -> None:
    """What the greenlet does that runs the loop."""
    loop.run_forever()


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
