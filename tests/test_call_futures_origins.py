"""`CallFuture` and who runs its call: taking it back, stopping it, finishing it; waiting for it in a task."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from typing import Any

import pytest
import trio
from conftest import MakeLoop
from motet import _motet
from motet._executor.futures import CallFuture


class Pool:
    """What a future asks about its call."""

    def __init__(self, withdraw: bool = False, kill: bool = False, running: bool = False) -> None:
        self.answers = {"withdraw": withdraw, "kill": kill, "running": running}
        self.asked: list[tuple[str, int]] = []
        self.future: Any = _motet._call_future(self, 7)

    def answer(self, question: str, number: int) -> bool:
        # Nothing is locked while it is asked.
        assert not self.future.done()
        self.asked.append((question, number))
        return self.answers[question]

    def _withdraw(self, number: int) -> bool:
        return self.answer("withdraw", number)

    def _kill(self, number: int) -> bool:
        return self.answer("kill", number)

    def _is_running(self, number: int) -> bool:
        return self.answer("running", number)


def run(make_loop: MakeLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_what_a_pool_makes_is_the_public_class() -> None:
    pool = Pool()
    assert type(pool.future) is CallFuture
    assert (pool.future._origin, pool.future._number) == (pool, 7)
    future: CallFuture[int] = CallFuture(number=3, origin=pool)
    assert (future._origin, future._number) == (pool, 3)
    for wrong in ({"other": 1}, {"number": "x"}):
        with pytest.raises(TypeError):
            CallFuture(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        CallFuture(pool, origin=pool)  # type: ignore[misc]


def test_a_call_that_has_not_begun_is_taken_back() -> None:
    pool, calls = Pool(withdraw=True), []
    future = pool.future
    future.add_done_callback(calls.append)
    thread = threading.Thread(target=future.cancel)
    thread.start()
    # No executor comes by to tell those who wait.
    assert concurrent.futures.wait([future], 60).done == {future}
    thread.join()
    assert future.cancelled()
    assert calls == [future]
    assert pool.asked == [("withdraw", 7)]
    assert future.cancel()
    assert future._origin is None


def test_a_call_that_has_begun_goes_on() -> None:
    pool = Pool(kill=True)
    assert pool.future.cancel() is False
    assert pool.asked == [("withdraw", 7)]
    assert pool.future._finish(1) is True
    assert pool.future.result() == 1
    assert pool.future.cancel() is False
    assert pool.future._origin is None


@pytest.mark.parametrize("begun", [False, True])
def test_a_call_that_has_begun_is_stopped_by_force(begun: bool) -> None:
    pool = Pool(kill=True)
    if begun:
        pool.future._start()
    assert pool.future.cancel(kill=True) is True
    assert pool.asked[-1] == ("kill", 7)
    assert not pool.future.done()
    assert pool.future._end_cancelled() is True
    assert pool.future.cancelled()
    assert (pool.future._finish(1), pool.future._fail(OSError()), pool.future._start()) == (False,) * 3
    assert pool.future.cancelled()


def test_a_call_that_cannot_be_stopped() -> None:
    pool = Pool()
    assert pool.future.cancel(kill=True) is False
    assert pool.asked == [("withdraw", 7), ("kill", 7)]
    future: CallFuture[int] = CallFuture()
    future.set_running_or_notify_cancel()
    assert future.cancel(kill=True) is False


@pytest.mark.parametrize("running", [False, True])
def test_whether_it_runs_is_the_pools_to_say(running: bool) -> None:
    pool = Pool(running=running)
    assert pool.future.running() is running
    assert pool.asked == [("running", 7)]
    assert pool.future._start() is True
    assert pool.future.running() is True
    pool.future._fail(OSError())
    assert pool.future.running() is False
    assert len(pool.asked) == 1


def test_what_the_pool_raises_is_told() -> None:
    future: Any = _motet._call_future(object(), 1)
    for ask in (future.cancel, future.running):
        with pytest.raises(AttributeError):
            ask()
    assert not future.done()


def test_a_result_that_comes_too_late_is_let_go() -> None:
    class Result:
        pass

    future: CallFuture[Result] = CallFuture()
    assert future.cancel()
    result = Result()
    gone = weakref.ref(result)
    assert future._finish(result) is False
    del result
    gc.collect()
    assert gone() is None


def in_both(main: Any) -> None:
    asyncio.run(main())
    trio.run(main)


def from_thread(act: Any) -> None:
    threading.Thread(target=act).start()


def test_awaiting() -> None:
    async def main() -> None:
        for _ in range(20):
            future: CallFuture[int] = CallFuture()
            from_thread(lambda future=future: future.set_result(3))
            assert await future == 3
            failed: CallFuture[int] = CallFuture()
            from_thread(lambda failed=failed: failed.set_exception(KeyError()))
            with pytest.raises(KeyError):
                await failed

    in_both(main)


def test_awaiting_what_is_done_does_not_suspend() -> None:
    future: CallFuture[int] = CallFuture()
    future.set_result(3)
    with pytest.raises(StopIteration) as caught:
        future.__await__().send(None)
    assert caught.value.value == 3


def test_awaiting_what_somebody_else_has_cancelled() -> None:
    async def main() -> None:
        future: CallFuture[int] = CallFuture()
        from_thread(future.cancel)
        with pytest.raises(concurrent.futures.CancelledError):
            await future

    in_both(main)


def test_awaiting_nowhere() -> None:
    future: CallFuture[int] = CallFuture()
    with pytest.raises(RuntimeError, match=r"use 'future\.result\(\)'"):
        future.__await__().send(None)


def test_a_cancelled_task_stops_its_call(make_loop: MakeLoop) -> None:
    pool = Pool(kill=True)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.future, 0.001)

    run(make_loop, main)
    assert pool.asked == [("withdraw", 7), ("kill", 7)]


def test_a_cancelled_task_takes_its_call_back(make_loop: MakeLoop) -> None:
    pool = Pool(withdraw=True)

    async def main() -> None:
        task = asyncio.ensure_future(pool.future)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(make_loop, main)
    assert pool.future.cancelled()


def test_a_cancelled_task_of_trio_stops_its_call() -> None:
    pool = Pool(kill=True)

    async def main() -> None:
        with trio.move_on_after(0.001) as scope:
            await pool.future
        assert scope.cancelled_caught
        # What comes now wakes nobody.
        pool.future._end_cancelled()
        await trio.lowlevel.checkpoint()

    trio.run(main)
    assert pool.asked == [("withdraw", 7), ("kill", 7)]


def test_several_tasks_await_one_call() -> None:
    async def main() -> None:
        future: CallFuture[int] = CallFuture()

        async def wait() -> int:
            return await future

        tasks = [asyncio.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0)
        future.set_result(1)
        assert await asyncio.gather(*tasks, future) == [1] * 6

    asyncio.run(main())


def test_a_loop_that_is_closed_meanwhile(make_loop: MakeLoop) -> None:
    future: CallFuture[int] = CallFuture()
    wait = future.__await__()

    async def main() -> None:
        wait.send(None)

    run(make_loop, main)
    future.set_result(1)
    wait.close()


def test_a_trio_that_has_ended_meanwhile() -> None:
    future: CallFuture[int] = CallFuture()

    async def main() -> None:
        with trio.move_on_after(0.001):
            await future

    trio.run(main)
    if not future.done():
        future.set_result(1)


@pytest.mark.thread_unsafe(reason="switches the collector off")
def test_awaiting_leaves_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:

        async def main() -> weakref.ref[CallFuture[int]]:
            futures: list[CallFuture[int]] = [CallFuture()]
            gone = weakref.ref(futures[0])
            asyncio.get_running_loop().call_soon(futures[0].set_exception, KeyError())
            with suppress(KeyError):
                # The frame must not have it: the exception's traceback has the frame.
                await futures.pop()
            return gone

        with closing(asyncio.new_event_loop()) as loop:
            gone = loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(0))
            assert gone() is None
    finally:
        gc.enable()
