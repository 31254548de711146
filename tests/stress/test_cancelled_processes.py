"""Subprocesses cancelled at random: while they start, while their pipes are connected, while they run.

The run is repeatable but for the timing of the system: `MOTET_STRESS_SEED` chooses it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from asyncio.subprocess import PIPE
from contextlib import suppress

import motet
import pytest

SEED = int(os.environ.get("MOTET_STRESS_SEED", "20261122"))
ROUNDS = 40
AT_ONCE = 8
LIMIT = 60.0

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's children, threads and descriptors")


async def converse(size: int) -> int:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        output, _ = await process.communicate(bytes(size))
        assert len(output) == size
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # Reads what is left, so that the pipes end too.
        await process.communicate()
    return await process.wait()


async def stress(generator: random.Random) -> tuple[int, int, list[object]]:
    loop = asyncio.get_running_loop()
    reports: list[object] = []
    loop.set_exception_handler(lambda _, details: reports.append(details))
    finished = cancelled = 0
    for _ in range(ROUNDS):
        tasks = [asyncio.create_task(converse(generator.choice([0, 10, 200_000]))) for _ in range(AT_ONCE)]
        for task in tasks:
            if generator.random() < 0.7:
                loop.call_later(generator.random() * 0.012, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                cancelled += 1
            else:
                assert result == 0
                finished += 1
    return finished, cancelled, reports


def left() -> tuple[bool, int, int]:
    """Whether there are children, dead or alive, and how many descriptors and threads."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        children = False
    else:
        children = True
    return children, len(os.listdir("/proc/self/fd")), threading.active_count()


def test_nothing_is_left_of_them() -> None:
    # What the process opens once is opened by now.
    motet.run(asyncio.sleep(0))
    gc.collect()
    before = left()
    finished, cancelled, reports = motet.run(stress(random.Random(SEED)))
    assert reports == []
    # The run was worth something.
    assert min(finished, cancelled) > ROUNDS
    gc.collect()
    deadline = time.monotonic() + LIMIT
    while left() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left() == before
