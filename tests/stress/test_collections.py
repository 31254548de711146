"""Garbage collections in one thread while loops of others wait and run: nothing that lives is collected."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import motet
import pytest

pytestmark = pytest.mark.thread_unsafe(reason="collects without an end while it runs")

LOOPS = 20
TURNS = 300


class Link:
    """Only the loop knows it: a collector that overlooks the loop takes it for garbage."""

    def __init__(self) -> None:
        self.itself = self
        self.future = asyncio.get_running_loop().create_future()


async def pass_on() -> int:
    """Many short waits, each known to nobody but the loop."""
    passed = 0
    loop = asyncio.get_running_loop()
    for _ in range(TURNS):
        link = Link()
        loop.call_later(0.0005, link.future.set_result, 1)
        passed += await link.future
    return passed


def test_what_only_a_waiting_loop_knows_is_kept(quick_collections: None) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(motet.run(pass_on()))) for _ in range(LOOPS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        gc.collect()
        # Without a GIL a collection stops all threads.
        time.sleep(0.001)
    assert results == [TURNS] * LOOPS
