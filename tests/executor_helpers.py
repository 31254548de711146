"""What the tests of executors share: calls that end badly, and what an executor may leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import motet

# Against hanging only.
LIMIT = 60


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def end(how: str) -> None:
    """Ends this process."""
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


def nap_deaf(seconds: float) -> None:
    """Sleeps, and takes no signal that it can refuse."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(seconds)


def append(path: str, text: str) -> int:
    """Adds a line to a file, whole; gives the number of lines then."""
    with open(path, "a") as file:
        file.write(text + "\n")
    return len(Path(path).read_text().splitlines())


def wait_until(condition: Callable[[], object]) -> None:
    """Waits for what nothing tells of."""
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.002)


def is_alive(pid: int) -> bool:
    """Whether a process is there that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_asleep(pid: int) -> bool:
    """Whether a main thread waits: a signal that comes in the moment before may not end the wait."""
    return Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def zygotes() -> list[int]:
    """The zygotes of this process."""
    from motet._executor import zygotes

    return [found._process.pid for found in zygotes._zygotes.values()]


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have started."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                found |= {child} | descendants(child)
    return found


def warm(executor: motet.Executor, count: int) -> set[int]:
    """Has an executor start its workers; their process numbers."""
    found: set[int] = set()

    def all_are_there() -> bool:
        found.update(
            future.result(LIMIT) for future in [executor.submit(os.getpid) for _ in range(8 * count)]
        )
        return len(found) >= count

    wait_until(all_are_there)
    return found


def shared_files() -> list[str]:
    """What this library would have in the file system's shared memory, where it has nothing."""
    return [name for name in os.listdir("/dev/shm") if "motet" in name]


def _descriptors() -> int:
    """How many are open. Those of an arena are not counted: it keeps memory for its next arrays."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += "motet arena" not in os.readlink(f"/proc/self/fd/{number}")
    return count


class Left:
    """What there is before executors come and go, to compare with what there is afterwards."""

    def __init__(self) -> None:
        # The zygote stays for the next executor.
        with motet.Executor("processes", 1) as executor:
            executor.submit(int).result(LIMIT)
        self._before = self._look()

    @staticmethod
    def _look() -> dict[str, int]:
        return {
            "descriptors": _descriptors(),
            "threads": threading.active_count(),
            "processes": len(descendants(os.getpid())),
        }

    def check(self) -> None:
        """Nothing more may be there, now or soon."""

        def is_gone() -> bool:
            now = self._look()
            return all(now[what] <= self._before[what] for what in now)

        try:
            wait_until(is_gone)
        except AssertionError:
            raise AssertionError(f"before: {self._before}, now: {self._look()}") from None
        assert shared_files() == []
