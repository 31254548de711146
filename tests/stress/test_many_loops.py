"""Loops made and closed ten thousand times: no descriptor, thread or memory is left."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading

import motet
import pytest

pytestmark = pytest.mark.thread_unsafe(reason="measures the memory and the descriptors of the process")

LOOPS = 10_000
WARM_UP = 500


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def use_one(number: int) -> None:
    """Makes a loop, uses what it has, and closes it with things left over."""
    loop = motet.new_event_loop()
    loop.call_soon(int)
    loop.call_later(3600, int, number)
    loop.call_soon_threadsafe(int)
    if number % 2:
        loop.run_until_complete(asyncio.sleep(0))
    if number % 10 == 1:
        here, there = socket.socketpair()
        here.setblocking(False)
        with here, there:
            loop.add_reader(here, int)
            waiting = loop.create_task(loop.sock_recv(there, 1)) if number % 20 == 1 else None
            there.setblocking(False)
            loop.run_until_complete(asyncio.sleep(0))
            if waiting:
                waiting.cancel()
                loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_nothing_is_left() -> None:
    for number in range(WARM_UP):
        use_one(number)
    gc.collect()
    before = descriptors(), threads(), threading.active_count()
    memory = resident_bytes()
    for number in range(LOOPS):
        use_one(number)
    gc.collect()
    assert (descriptors(), threads(), threading.active_count()) == before
    # 400 bytes kept for each loop would be seen.
    assert resident_bytes() - memory < 4_000_000


def test_nothing_is_left_of_loops_that_nobody_closed(quick_collections: None) -> None:
    def make() -> None:
        loop = motet.new_event_loop()
        loop.call_later(3600, id, loop)

    def forget(count: int) -> None:
        for _ in range(count):
            make()
            with pytest.warns(ResourceWarning, match="unclosed event loop"):
                gc.collect()

    forget(10)
    before = descriptors(), threads()
    forget(100)
    assert (descriptors(), threads()) == before
