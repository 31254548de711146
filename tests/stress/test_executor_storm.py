"""Workers, and at times their zygote, are killed at random under mixed load: every call comes to an end that
is documented, and nothing is left.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, wait

import dose
import motet
import pytest
from executor_helpers import Left, wait_until, zygotes
from storm_calls import Calls, Expected, double, prepare

pytest.importorskip("numpy")
pytestmark = pytest.mark.thread_unsafe(reason="kills processes")

WORKERS = 4
# Calls that are under way at most.
WINDOW = 300
KILL_EVERY = 0.05
# One in so many is the zygote's, with all workers.
ZYGOTE_EVERY = 40
LIMIT = 120


def attached() -> int:
    """Bytes of workers' arenas that this process has attached; its own it keeps for its next arrays."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "motet arena" in os.readlink(f"/proc/self/fd/{number}"):
                found += os.stat(f"/proc/self/fd/{number}").st_size
    return found - int(motet._motet._arena_statistics()["held_bytes"])


class Account:
    """Knows the calls that are under way, and how the others have ended."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._pending: dict[Future[object], Expected] = {}

    def open(self, expected: Expected) -> None:
        self._pending[expected.future] = expected

    def settle(self, count: int) -> None:
        """Waits until at most so many calls are under way, and looks at those that have ended."""
        until = time.monotonic() + LIMIT
        while len(self._pending) > count:
            assert time.monotonic() < until, f"these do not end: {list(self._pending)[:5]}"
            for future in wait(self._pending, 0.05).done:
                self._close(self._pending.pop(future))

    def _close(self, expected: Expected) -> None:
        try:
            found = expected.future.result(0)
        except expected.errors as error:
            self.outcomes[type(error).__name__] += 1
            return
        self.outcomes["result"] += 1
        assert expected.check(found), f"{expected} has given {found!r}"


class Lines:
    """Takes the place of `sys.stdout`: what workers print comes in whole lines."""

    def __init__(self) -> None:
        self.count = 0
        self.broken: list[str] = []

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self.count += 1
            if re.fullmatch(r"line \d+ ends here", line) is None:
                self.broken.append(line)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept."""


class Killer(threading.Thread):
    """Kills until it is told to end."""

    def __init__(self, executor: motet.Executor, seed: int) -> None:
        super().__init__()
        self.kills = 0
        self._executor = executor
        self._generator = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(KILL_EVERY):
            if self._generator.randrange(ZYGOTE_EVERY) == 0:
                for zygote in zygotes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(zygote, signal.SIGKILL)
                        self.kills += 1
            elif workers := list(self._executor._processes.values()):
                self.kills += self._generator.choice(workers).signal(signal.SIGKILL)

    def end(self) -> None:
        self._over.set()
        self.join()


@contextlib.contextmanager
def killing(executor: motet.Executor) -> Iterator[Killer]:
    killer = Killer(executor, dose.SEED)
    killer.start()
    try:
        yield killer
    finally:
        killer.end()


def test_every_call_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"seed {dose.SEED}")
    left, lines, account = Left(), Lines(), Account()
    # What tests before this one have kept of other workers.
    foreign = attached()
    monkeypatch.setattr(sys, "stdout", lines)
    with motet.Executor("processes", WORKERS, initializer=prepare, initargs=("prepared",)) as executor:
        executor.submit(double, 1).result(LIMIT)
        calls = Calls(executor, random.Random(dose.SEED))
        until = time.monotonic() + dose.seconds(6)
        with killing(executor) as killer:
            while time.monotonic() < until:
                for _ in range(20):
                    account.open(calls.submit())
                account.settle(WINDOW)
        account.settle(0)
        statistics = executor.statistics()
        assert statistics["queued"] == statistics["sent"] == 0
        assert executor.submit(double, 4).result(LIMIT) == 8
    monkeypatch.undo()
    print(f"{killer.kills} kills, {lines.count} lines, {dict(account.outcomes)}, {statistics}")
    assert killer.kills > 0
    assert account.outcomes["result"] > 0
    assert lines.count > 0
    assert lines.broken == []
    del executor, calls, killer
    gc.collect()
    left.check()
    arena = motet._motet._arena_statistics()
    assert arena["live_bytes"] == 0
    wait_until(lambda: attached() <= foreign)
