"""`CallFuture` beside `concurrent.futures.Future`: how others are told that it is done."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future as StockFuture
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeLoop
from motet._executor.futures import CallFuture

Make = Callable[[], "StockFuture[Any]"]


@pytest.fixture(params=[StockFuture, CallFuture], ids=["stock", "motet"])
def make(request: pytest.FixtureRequest) -> Make:
    """What makes a future: Python's own class, then motet's."""
    maker: Make = request.param
    return maker


def test_callbacks_in_their_order(make: Make) -> None:
    future, calls = make(), []
    for number in range(3):
        future.add_done_callback(lambda done, number=number: calls.append((number, done.result())))
    assert not calls
    future.set_result("x")
    assert calls == [(0, "x"), (1, "x"), (2, "x")]
    future.add_done_callback(fn=lambda done: calls.append((3, done.result())))
    assert calls[-1] == (3, "x")


def test_callbacks_of_a_cancelled_call_are_called_once(make: Make) -> None:
    future, calls = make(), []
    future.add_done_callback(calls.append)
    future.cancel()
    future.cancel()
    future.set_running_or_notify_cancel()
    assert calls == [future]


@pytest.mark.thread_unsafe(reason="reads what all threads have logged")
@pytest.mark.parametrize("already", [False, True])
def test_a_callback_that_raises(make: Make, already: bool, caplog: pytest.LogCaptureFixture) -> None:
    future, calls, error = make(), [], OSError("doh")

    def fail(_: object) -> None:
        raise error

    if already:
        future.set_result(1)
    future.add_done_callback(fail)
    future.add_done_callback(calls.append)
    if not already:
        future.set_result(1)
    assert calls == [future]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("concurrent.futures", logging.ERROR)
    assert record.getMessage() == f"exception calling callback for {future!r}"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_callback_that_ends_the_program(make: Make) -> None:
    future = make()

    def leave(_: object) -> None:
        raise SystemExit(3)

    future.add_done_callback(leave)
    with pytest.raises(SystemExit):
        future.set_result(1)
    assert future.result() == 1


def test_the_list_of_callbacks_can_be_changed(make: Make) -> None:
    future, calls = make(), []
    first, second, third = (lambda _, number=number: calls.append(number) for number in range(3))
    future.add_done_callback(first)
    callbacks: list[Any] = future._done_callbacks  # type: ignore[attr-defined]
    future.add_done_callback(second)
    callbacks.remove(first)
    future.add_done_callback(third)
    assert callbacks == [second, third]
    future.set_result(None)
    assert calls == [1, 2]


@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_wait(make: Make, end: str, when: str) -> None:
    future, finished = make(), make()
    if when != "FIRST_COMPLETED":
        finished.set_result(0)

    def finish() -> None:
        if end == "cancel":
            future.cancel()
        if future.set_running_or_notify_cancel():
            future.set_result(1) if end == "result" else future.set_exception(OSError())

    thread = threading.Thread(target=finish)
    thread.start()
    done, _ = concurrent.futures.wait([future, finished], 60, when)
    thread.join()
    assert future in done or (when, end) == ("FIRST_EXCEPTION", "result")


def test_as_completed(make: Make) -> None:
    futures = [make() for _ in range(20)]
    futures[0].set_result(0)
    thread = threading.Thread(target=lambda: [future.set_result(1) for future in futures[1:]])
    seen = []
    for future in concurrent.futures.as_completed(futures, timeout=60):
        if not seen:
            thread.start()
        seen.append(future)
    thread.join()
    assert seen[0] is futures[0]
    assert set(seen) == set(futures)
    assert len(seen) == 20
    with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
        list(concurrent.futures.as_completed([make()], timeout=0))


def test_it_can_be_wrapped_by_a_loop(make: Make, make_loop: MakeLoop) -> None:
    async def main() -> None:
        future, cancelled, failed, withdrawn = make(), make(), make(), make()
        waits = [asyncio.wrap_future(each) for each in (future, cancelled, failed, withdrawn)]
        threading.Thread(target=future.set_result, args=(1,)).start()
        assert await waits[0] == 1
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits[1]
        failed.set_exception(KeyError())
        with pytest.raises(KeyError):
            await waits[2]
        waits[3].cancel()
        await asyncio.sleep(0)
        assert withdrawn.cancelled()

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_its_condition_is_one_of_pythons(make: Make) -> None:
    condition = make()._condition
    assert isinstance(condition, threading.Condition)
    for notify in (condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="cannot notify on un-acquired lock"):
            notify()
    with pytest.raises(RuntimeError):
        condition.release()
    with pytest.raises(RuntimeError, match="cannot wait on un-acquired lock"):
        condition.wait()
    woken: list[int] = []

    def wait(number: int) -> None:
        with condition, condition:
            condition.notify_all()
            assert condition.wait_for(lambda: woken or not number, 60)
            woken.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in (2, 1, 0)]
    for thread in threads:
        thread.start()
        if thread is threads[-1]:
            thread.join(60)
            with condition:
                condition.notify(2)
    for thread in threads:
        thread.join(60)
    assert sorted(woken) == [0, 1, 2]
    assert condition.acquire(blocking=False)
    assert condition.acquire(timeout=1)
    condition.release()
    condition.release()
