"""Green threads: functions that run beside asyncio's tasks, on one loop in one thread, and wait by plain
calls.

>>> from motet import green
>>> def work(number: int) -> int:
...     green.sleep(0.01)
...     return number * number
>>> threads = [green.spawn(work, number) for number in range(3)]
>>> [thread.result() for thread in threads]
[0, 1, 4]

They take turns: one runs until it waits, by any blocking call of motet's. The stacks are those of the package
greenlet. Nothing is patched: a call that blocks the thread, such as `time.sleep`, blocks all.
"""

from greenlet import GreenletExit

from motet._motet import GreenThread, spawn

from ._pool import Pool
from ._starting import join, kill, spawn_later
from ._timeouts import Timeout
from ._waiting import getcurrent, run, sleep, wait

__all__ = [
    "GreenThread",
    "GreenletExit",
    "Pool",
    "Timeout",
    "getcurrent",
    "join",
    "kill",
    "run",
    "sleep",
    "spawn",
    "spawn_later",
    "wait",
]
