"""What workers are given to do: functions that every kind of worker can import."""

import os
import time
from typing import Any

# A worker's arrays, by their size.
_kept: dict[int, Any] = {}


def nothing() -> None:
    """Return at once."""


def same(value: Any) -> Any:
    """Return what came."""
    return value


def ends(array: Any) -> float:
    """Read the first and the last value of an array."""
    return float(array[0] + array[-1])


def kept(size: int) -> Any:
    """Return an array of `size` bytes, the same each time: making it is not what is measured."""
    import numpy as np

    if size not in _kept:
        _kept[size] = np.ones(size // 8)
    return _kept[size]


def kept_shared(size: int) -> Any:
    """As `kept`, an array that was born in memory that others see."""
    import motet

    if size not in _kept:
        _kept[size] = motet.empty(size // 8)
        _kept[size][:] = 1.0
    return _kept[size]


def nap(seconds: float) -> int:
    """Sleep; return the worker's number."""
    time.sleep(seconds)
    return os.getpid()


def hold(path: str) -> None:
    """Keep a worker busy, at no cost, as long as there is such a file."""
    while os.path.exists(path):
        time.sleep(0.02)


def work(rounds: int) -> int:
    """Compute in plain Python; its rounds take equally long."""
    total = 0
    for number in range(rounds):
        total += number % 7
    return total


def calibrate(seconds: float) -> int:
    """Return for how many rounds `work` takes so much processor time, at the best of five attempts."""
    rounds = 100_000
    work(rounds)
    return max(1, int(rounds * seconds / min(_processor_time(rounds) for _ in range(5))))


def _processor_time(rounds: int) -> float:
    begin = time.process_time()
    work(rounds)
    return time.process_time() - begin
