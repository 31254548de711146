"""`motet.map` of asynchronous functions."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import motet
import pytest
from map_helpers import no_workers_left as no_workers_left
from map_helpers import pytestmark as pytestmark


async def slow_square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


def test_asynchronous_functions_run_on_a_loop() -> None:
    assert list(motet.map(slow_square, range(500))) == [n * n for n in range(500)]
    assert sorted(motet.map(slow_square, range(50), ordered=False)) == [n * n for n in range(50)]


def test_no_more_asynchronous_calls_at_once_than_workers() -> None:
    now = most = 0

    async def count(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return number

    assert list(motet.map(count, range(50), workers=7)) == list(range(50))
    assert most == 7


def test_asynchronous_failures_timeouts_and_attempts() -> None:
    attempts: dict[int, int] = {}

    async def fail_once(number: int) -> int:
        attempts[number] = attempts.get(number, 0) + 1
        if attempts[number] == 1:
            raise LookupError("on purpose")
        if number == 3:
            await asyncio.sleep(600)
        return number

    found: list[Any] = list(motet.map(fail_once, range(5), retries=1, timeout=0.2, on_error="return"))
    assert isinstance(found[3], motet.CallTimeout)
    assert found[:3] + found[4:] == [0, 1, 2, 4]
    attempts.clear()
    with pytest.raises(LookupError) as raised:
        list(motet.map(fail_once, range(5)))
    assert raised.value.__notes__ == ["motet.map: item 0 (argument 0)"]


def test_closing_cancels_asynchronous_calls() -> None:
    begun = []
    cancelled = []
    all_begun = asyncio.Event()

    async def wait(number: int) -> int:
        begun.append(number)
        if len(begun) == 5:
            all_begun.set()
        if number:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)
        await all_begun.wait()
        return number

    results = motet.map(wait, range(10), workers=5)
    assert next(results) == 0
    results.close()
    assert {1, 2, 3, 4} <= set(cancelled) < set(begun)
    assert "motet.map" not in [thread.name for thread in threading.enumerate()]
