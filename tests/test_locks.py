"""Locks, semaphores, events, conditions and barriers by themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import motet
import pytest
import trio
from bodies import LIMIT
from conftest import MakeLoop


def run_in_thread(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.parametrize("make", [motet.Lock, motet.RLock, motet.Semaphore])
def test_as_those_of_threading(make: Callable[[], Any]) -> None:
    lock = make()
    assert lock.acquire() is True
    found: list[object] = []
    calls = [
        lambda: lock.acquire(blocking=False),
        lambda: lock.acquire(False),
        lambda: lock.acquire(timeout=0.01),
        lambda: lock.acquire(True, 0.01),
        lock.try_acquire,
    ]
    run_in_thread(lambda: found.extend(call() for call in calls)).join(LIMIT)
    assert found == [False] * 5
    lock.release()
    assert lock.acquire(timeout=-1) is True
    lock.release()
    with lock:
        assert lock.locked()
    assert not lock.locked()
    for wrong in ({"blocking": False, "timeout": 1}, {"timeout": -2}, {"timeout": float("nan")}):
        with pytest.raises(ValueError, match="timeout"):
            lock.acquire(**wrong)
    with pytest.raises(TypeError):
        lock.acquire(timeout="soon")
    with pytest.raises(TypeError, match="unexpected keyword argument 'wait'"):
        lock.acquire(wait=True)


def test_who_comes_first_goes_first() -> None:
    lock, order = motet.Lock(), []
    lock.acquire()

    def work(number: int) -> None:
        with lock:
            order.append(number)

    threads = []
    for number in range(8):
        threads.append(run_in_thread(lambda number=number: work(number)))
        wait_until(lambda number=number: len(lock.statistics()["waiters"]) == number + 1)
    lock.release()
    # Handed over: whoever comes now is not before them.
    lock.acquire()
    assert order == list(range(8))
    lock.release()
    for thread in threads:
        thread.join(LIMIT)


def test_a_lock_that_nobody_holds_is_not_released() -> None:
    for make in (motet.Lock, motet.RLock):
        with pytest.raises(RuntimeError, match="release unlocked lock"):
            make().release()


def test_a_lock_may_be_released_by_another() -> None:
    lock = motet.Lock()
    lock.acquire()
    run_in_thread(lock.release).join(LIMIT)
    assert not lock.locked()


def test_a_reentrant_lock_has_an_owner() -> None:
    lock = motet.RLock()
    with lock, lock:
        problems: list[str] = []

        def release() -> None:
            try:
                lock.release()
            except RuntimeError as error:
                problems.append(str(error))

        run_in_thread(release).join(LIMIT)
        me = f"thread {threading.current_thread().name!r}"
        assert problems == [f"cannot release a lock that is held by {me}"]
        assert lock.statistics()["owners"] == [me]
    assert not lock.locked()


def test_tasks_of_one_thread_are_owners_of_their_own(make_loop: MakeLoop) -> None:
    async def main() -> None:
        lock, order = motet.RLock(), []

        async def work(name: str) -> None:
            async with lock, lock:
                order.append(name)
                await asyncio.sleep(0.01)
                with pytest.raises(motet.WouldBlock), other:
                    pass
                order.append(name)

        other = motet.Lock()
        other.acquire()
        await asyncio.gather(work("one"), work("other"))
        assert order == ["one", "one", "other", "other"]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_a_semaphore_lets_so_many_go_on() -> None:
    semaphore, inside, most = motet.Semaphore(3), [0], [0]

    async def work() -> None:
        async with semaphore:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            await asyncio.sleep(0.001)
            inside[0] -= 1

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(work())

    motet.run(main())
    assert most == [3]
    assert semaphore.value == 3
    semaphore.release(2)
    assert semaphore.value == 5


def test_a_bounded_semaphore_is_not_released_too_often() -> None:
    semaphore = motet.Semaphore(2, bounded=True)
    with pytest.raises(ValueError, match="released too many times: it is for 2, of which 2 are free"):
        semaphore.release()
    semaphore.acquire()
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release(2)
    semaphore.release()
    with pytest.raises(ValueError, match="n must be one or more"):
        semaphore.release(0)
    with pytest.raises(ValueError, match="value must not be negative"):
        motet.Semaphore(-1)
    assert not motet.Semaphore(0, bounded=True).try_acquire()
    assert motet.Semaphore(0, bounded=True).acquire(timeout=0.01) is False


def test_an_event(make_loop: MakeLoop) -> None:
    event = motet.Event()
    assert not event.is_set()
    assert event.wait(0.01) is False
    waiting = run_in_thread(event.wait)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event.await_(), 0.01)
        assert await event.await_(0.01) is False
        waiter = asyncio.ensure_future(_wait(event))
        await asyncio.sleep(0.01)
        event.set()
        # Who was waiting when it was set goes on, though it is cleared before they run.
        event.clear()
        assert await waiter is True
        event.set()
        assert await event is True

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    waiting.join(LIMIT)
    assert not waiting.is_alive()
    assert event.wait() is True


async def _wait(event: motet.Event) -> bool:
    return await event


@pytest.mark.parametrize("make", [motet.Lock, motet.RLock])
def test_a_condition_for_threads_and_tasks(make: Callable[[], motet.Lock], make_loop: MakeLoop) -> None:
    condition, items = motet.Condition(make()), list[int]()
    found: list[int] = []

    def in_thread() -> None:
        with condition:
            assert condition.wait_for(lambda: items, LIMIT)
            found.append(items.pop())

    async def in_task() -> None:
        async with condition:
            assert await condition.await_for(lambda: items, LIMIT)
            found.append(items.pop())

    async def main() -> None:
        thread = run_in_thread(in_thread)
        task = asyncio.ensure_future(in_task())
        while len(condition.statistics()["waiters"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for number in range(2):
            async with condition:
                items.append(number)
                condition.notify()
        await task
        await asyncio.to_thread(thread.join, LIMIT)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    assert sorted(found) == [0, 1]
    assert not condition.lock.locked()


def test_a_condition_holds_its_lock_again_however_the_wait_ends() -> None:
    condition = motet.Condition()
    with condition, condition:
        assert condition.wait(0.01) is False
        assert condition.lock._is_owned()
        assert condition.wait_for(lambda: False, 0.01) is False
    assert not condition.lock.locked()

    async def main() -> None:
        async with condition:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await condition.await_()
            assert condition.lock._is_owned()
        assert not condition.lock.locked()

    motet.run(main())

    async def in_trio() -> None:
        async with condition:
            with trio.move_on_after(0.01) as scope:
                await condition.await_()
            assert scope.cancelled_caught
            assert condition.lock._is_owned()

    trio.run(in_trio)
    assert not condition.lock.locked()


def test_a_notification_is_not_lost_with_who_was_cancelled() -> None:
    async def main() -> None:
        condition, woken = motet.Condition(), []

        async def wait(name: str) -> None:
            async with condition:
                await condition.await_()
                woken.append(name)

        first, second = asyncio.ensure_future(wait("first")), asyncio.ensure_future(wait("second"))
        await asyncio.sleep(0.01)
        async with condition:
            condition.notify()
            first.cancel()
        await asyncio.wait([first, second], timeout=LIMIT)
        assert first.cancelled()
        assert woken == ["second"]

    motet.run(main())


def test_a_condition_without_its_lock() -> None:
    condition = motet.Condition()
    with pytest.raises(RuntimeError, match="the lock of the condition must be held"):
        condition.wait()
    with pytest.raises(RuntimeError, match="the lock of the condition must be held"):
        condition.notify_all()
    with pytest.raises(TypeError, match=r"needs a motet\.Lock or motet\.RLock, not lock"):
        motet.Condition(threading.Lock())  # type: ignore[arg-type]


def test_a_barrier_for_threads_and_tasks() -> None:
    barrier = motet.Barrier(3)
    found: list[int] = []

    async def main() -> None:
        thread = run_in_thread(lambda: found.append(barrier.wait(LIMIT)))
        one, other = await asyncio.gather(barrier.await_(), barrier.await_(LIMIT))
        await asyncio.to_thread(thread.join, LIMIT)
        found.extend([one, other])

    for _ in range(3):
        motet.run(main())
        assert sorted(found) == [0, 1, 2]
        found.clear()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_who_stops_waiting_breaks_the_barrier() -> None:
    barrier = motet.Barrier(2)
    with pytest.raises(TimeoutError):
        barrier.wait(0.01)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    problems: list[BaseException] = []

    def wait() -> None:
        try:
            barrier.wait()
        except motet.BrokenBarrier as error:
            problems.append(error)

    thread = run_in_thread(wait)
    wait_until(lambda: barrier.n_waiting == 1)
    barrier.abort()
    thread.join(LIMIT)
    assert len(problems) == 1
    with pytest.raises(ValueError, match="parties must be one or more, not 0"):
        motet.Barrier(0)
