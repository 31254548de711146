"""Workers are killed at random under mixed load; every call must come to an end that is documented."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import dose
import motet
import pytest

pytestmark = pytest.mark.thread_unsafe(reason="kills processes")

WORKERS = 4
# Calls that are under way at most.
WINDOW = 300
KILL_EVERY = 0.05
LIMIT = 120


def double(number: int) -> int:
    return number * 2


def double_slowly(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * 2


def add_one(array: Any) -> Any:
    array += 1
    return array


class Storm:
    """Submits calls of all sorts, and knows which ends each may have."""

    def __init__(self, executor: motet.Executor, generator: random.Random) -> None:
        self.executor = executor
        self.generator = generator
        self.outcomes: Counter[str] = Counter()
        self.pending: dict[Future[Any], tuple[Any, tuple[type[BaseException], ...]]] = {}

    def submit(self) -> None:
        number = self.generator.randrange(1_000_000)
        kind = self.generator.randrange(8)
        died = motet.WorkerDied
        if kind < 3:
            self._expect(self.executor.submit(double, number), number * 2, died)
        elif kind == 3:
            self._expect(self.executor.submit(double_slowly, number, 0.001), number * 2, died)
        elif kind == 4:
            self._submit_array(number)
        elif kind == 5:
            patient = self.executor.options(retries=self.generator.randrange(5), name="tried again")
            self._expect(patient.submit(double_slowly, number, 0.001), number * 2, died)
        elif kind == 6:
            hasty = self.executor.options(timeout=0.02, retries=self.generator.randrange(2))
            seconds = self.generator.choice([0.001, 0.2])
            self._expect(hasty.submit(double_slowly, number, seconds), number * 2, died, motet.CallTimeout)
        else:
            future = self.executor.submit(double_slowly, number, self.generator.choice([0.001, 0.1]))
            self._expect(future, number * 2, died, CancelledError)
            if self.generator.random() < 0.5:
                threading.Timer(self.generator.random() / 50, future.cancel, kwargs={"kill": True}).start()
            else:
                future.cancel()

    def _submit_array(self, number: int) -> None:
        numpy = pytest.importorskip("numpy")
        make = self.generator.choice([numpy.empty, motet.empty])
        array = make(self.generator.randrange(1, 40_000), "int64")
        array[:] = number
        self._expect(self.executor.submit(add_one, array), number + 1, motet.WorkerDied)

    def _expect(self, future: Future[Any], result: Any, *errors: type[BaseException]) -> None:
        self.pending[future] = result, errors

    def settle(self, count: int) -> None:
        """Waits until at most so many calls are under way, and looks at those that have ended."""
        until = time.monotonic() + LIMIT
        while len(self.pending) > count:
            assert time.monotonic() < until, f"{len(self.pending)} calls do not end"
            done, _ = wait(self.pending, 0.05)
            for future in done:
                self._check(future)

    def _check(self, future: Future[Any]) -> None:
        result, errors = self.pending.pop(future)
        try:
            found = future.result(0)
        except errors as error:
            self.outcomes[type(error).__name__] += 1
            return
        self.outcomes["result"] += 1
        if hasattr(found, "shape"):
            assert (found == result).all()
        else:
            assert found == result


def test_every_call_is_accounted_for() -> None:
    print(f"seed {dose.SEED}")
    generator = random.Random(dose.SEED)
    before = threading.active_count()
    with motet.Executor("processes", WORKERS) as executor:
        executor.submit(double, 1).result(LIMIT)
        descriptors = len(os.listdir("/proc/self/fd"))
        storm = Storm(executor, generator)
        until = time.monotonic() + dose.seconds(6)
        next_kill = 0.0
        kills = 0
        while (now := time.monotonic()) < until:
            if now >= next_kill:
                next_kill = now + KILL_EVERY
                workers = list(executor._processes.values())
                if workers:
                    generator.choice(workers).signal(signal.SIGKILL)
                    kills += 1
            for _ in range(20):
                storm.submit()
            storm.settle(WINDOW)
        storm.settle(0)
        print(f"{kills} kills, {dict(storm.outcomes)}, {executor.statistics()}")
        assert storm.outcomes["result"] > 0
        assert executor.submit(double, 4).result(LIMIT) == 8
        # Of each worker: its lane, its socket, itself, its output; and segments of its arena.
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 16 * WORKERS
        statistics = executor.statistics()
        assert statistics["queued"] == statistics["sent"] == 0
    assert threading.active_count() <= before + 64
