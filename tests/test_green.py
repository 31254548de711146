"""Green threads: what they return and raise, how they take turns, wait, end and are ended."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from typing import Any

import greenlet
import motet
import pytest
from bodies import LIMIT
from conftest import RunProgram
from motet import green

pytestmark = pytest.mark.thread_unsafe(reason="the loop of green threads is the thread's")


def test_what_a_function_returns() -> None:
    thread = green.spawn(divmod, 7, 2)
    assert not thread.started
    assert thread.result() == (3, 1)
    assert thread.done
    assert thread.value == (3, 1)
    assert thread.exception is None
    assert green.spawn(dict, one=1).result() == {"one": 1}


def test_what_a_function_raises() -> None:
    thread = green.spawn(divmod, 7, 0)
    assert thread.join() is True
    with pytest.raises(ZeroDivisionError):
        thread.result()
    assert isinstance(thread.exception, ZeroDivisionError)
    assert thread.value is None
    with pytest.raises(TypeError, match="a green thread needs a function, not int"):
        green.spawn(7)  # type: ignore[arg-type]


def test_they_take_turns() -> None:
    order: list[tuple[str, int]] = []

    def work(name: str) -> None:
        for number in range(3):
            order.append((name, number))
            green.sleep(0)

    green.join([green.spawn(work, name) for name in "abc"])
    assert order == [(name, number) for number in range(3) for name in "abc"]


def test_waiting_for_time() -> None:
    begun = time.monotonic()
    assert green.join([green.spawn(green.sleep, 0.05) for _ in range(50)])
    assert 0.05 <= time.monotonic() - begun < LIMIT
    thread = green.spawn(green.sleep, LIMIT)
    assert thread.join(0.01) is False
    with pytest.raises(TimeoutError):
        thread.result(timeout=0.01)
    assert green.kill(thread)


def test_started_later() -> None:
    begun = time.monotonic()
    thread = green.spawn_later(0.03, time.monotonic)
    never = green.spawn_later(LIMIT, pytest.fail, "it was killed before")
    assert green.kill(never)
    assert thread.result() - begun >= 0.03
    with pytest.raises(ValueError, match="must not be negative"):
        green.spawn_later(-1, len, ())


def test_a_loop_has_its_turn_beside_those_that_never_wait() -> None:
    ticks = []

    async def main() -> None:
        stop = []

        def spin() -> None:
            while not stop:
                green.sleep(0)

        spinning = [green.spawn(spin) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0.001)
            ticks.append(1)
        stop.append(True)
        for thread in spinning:
            await thread

    motet.run(main())
    assert len(ticks) == 5


def test_killing() -> None:
    events = []

    def work() -> None:
        try:
            green.sleep(LIMIT)
        except green.GreenletExit:
            events.append("exit")
            raise
        finally:
            events.append("finally")

    thread = green.spawn(work)
    green.sleep(0)
    assert green.kill(thread) is True
    assert events == ["exit", "finally"]
    assert isinstance(thread.result(), green.GreenletExit)
    assert green.kill(thread) is True
    assert thread.throw(ValueError()) is False
    # One that has not begun.
    thread = green.spawn(pytest.fail, "it was killed before it began")
    assert green.kill(thread) is True
    assert thread.done


def test_another_error_may_be_thrown() -> None:
    def work() -> str:
        try:
            green.sleep(LIMIT)
        except LookupError as error:
            return f"caught {error}"
        return "not reached"

    thread = green.spawn(work)
    green.sleep(0)
    green.kill(thread, LookupError("because"))
    assert thread.result() == "caught because"


def test_ending_itself() -> None:
    def work() -> None:
        green.kill(green.getcurrent())  # type: ignore[arg-type]
        pytest.fail("it has ended")

    assert isinstance(green.spawn(work).result(), green.GreenletExit)


def test_a_wait_that_ends_by_an_error_takes_nothing() -> None:
    channel, lock = motet.Channel[int](0), motet.Lock()
    lock.acquire()
    threads = [green.spawn(channel.get), green.spawn(lock.acquire), green.spawn(channel.get)]
    green.sleep(0)
    assert [waiter["who"] for waiter in channel.statistics()["waiters"]] == [
        f"green thread {threads[0].name!r}",
        f"green thread {threads[2].name!r}",
    ]
    green.kill(threads[0])
    green.kill(threads[1])
    channel.put(1)
    assert threads[2].result() == 1
    lock.release()
    assert not lock.locked()


def test_an_item_given_to_one_that_is_killed_before_it_runs() -> None:
    channel = motet.Channel[int](0)
    thread = green.spawn(channel.get)
    green.sleep(0)
    channel.try_put(7)
    thread.throw(green.GreenletExit())
    assert isinstance(thread.result(), green.GreenletExit)
    assert channel.try_get() == 7


def test_timeouts() -> None:
    with pytest.raises(green.Timeout) as caught, green.Timeout(0.01) as timeout:
        green.sleep(LIMIT)
    assert caught.value is timeout
    assert str(timeout) == "0.01 seconds"
    with green.Timeout(0.01, False):
        green.sleep(LIMIT)
    with pytest.raises(LookupError), green.Timeout(0.01, LookupError):
        green.sleep(LIMIT)
    with green.Timeout(LIMIT), green.Timeout(None), green.Timeout(0.01, False):
        green.sleep(LIMIT)
    # One that has been left comes no more.
    with green.Timeout(0.02):
        pass
    green.sleep(0.04)

    def work() -> str:
        outer = green.Timeout(0.01)
        try:
            with outer, green.Timeout(LIMIT):
                green.sleep(LIMIT)
        except green.Timeout as error:
            return "outer" if error is outer else "inner"
        return "none"

    assert green.spawn(work).result() == "outer"


def test_a_green_thread_waits_for_a_coroutine_and_a_task_for_a_green_thread() -> None:
    async def add(one: int, other: int) -> int:
        await asyncio.sleep(0.001)
        assert asyncio.current_task() is not None
        return one + other

    def work(number: int) -> tuple[int, Any, Any]:
        assert asyncio.current_task() is None
        total = green.wait(add(number, 1))
        return total, asyncio.current_task(), asyncio.get_running_loop()

    async def main() -> None:
        task = asyncio.current_task()
        found = await asyncio.gather(*(green.spawn(work, number) for number in range(5)))
        assert [total for total, _, _ in found] == [1, 2, 3, 4, 5]
        assert {current for _, current, _ in found} == {None}
        assert {loop for _, _, loop in found} == {asyncio.get_running_loop()}
        assert asyncio.current_task() is task
        with pytest.raises(ZeroDivisionError):
            await green.spawn(divmod, 1, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await green.spawn(green.sleep, 0.1)

    motet.run(main())
    # Beside plain code the loop is the thread's own.
    assert green.wait(add(3, 4)) == 7
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_waiting_for_a_coroutine_ends_with_it() -> None:
    states = []

    async def forever() -> None:
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            states.append("cancelled")
            raise

    async def fail() -> None:
        raise LookupError("in the coroutine")

    with pytest.raises(TimeoutError):
        green.wait(forever(), timeout=0.01)
    thread = green.spawn(green.wait, forever())
    green.sleep(0.01)
    green.kill(thread)
    green.sleep(0.01)
    assert states == ["cancelled", "cancelled"]
    with pytest.raises(LookupError, match="in the coroutine"):
        green.wait(fail())


def test_a_task_that_would_block_is_told() -> None:
    async def main() -> None:
        thread = green.spawn(green.sleep, LIMIT)
        with pytest.raises(motet.WouldBlock, match=r"^GreenThread\.join\(\) would block the event loop"):
            thread.join()
        with pytest.raises(motet.WouldBlock, match=r"motet\.asleep"):
            green.sleep(0)
        thread.throw(green.GreenletExit())
        await thread

    motet.run(main())


def test_on_another_loop_than_motets() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"green threads run on motet's loop, not on "):
            green.spawn(len, ())

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_each_has_a_context_of_its_own() -> None:
    variable = contextvars.ContextVar[str]("variable", default="none")
    variable.set("outside")

    def work(name: str) -> tuple[str, str]:
        before = variable.get()
        variable.set(name)
        green.sleep(0)
        return before, variable.get()

    threads = [green.spawn(work, name) for name in "ab"]
    assert [thread.result() for thread in threads] == [("outside", "a"), ("outside", "b")]
    assert variable.get() == "outside"


def test_another_thread_may_wait_wake_and_end() -> None:
    channel = motet.Channel[int](0)
    thread = green.spawn(channel.get)
    other = green.spawn(green.sleep, LIMIT)
    found: list[Any] = []

    def in_thread() -> None:
        channel.put(5)
        found.append(thread.result(LIMIT))
        other.throw(green.GreenletExit())
        found.append(other.join(LIMIT))

    helper = threading.Thread(target=in_thread)
    helper.start()
    assert green.join([thread, other], LIMIT) == [thread, other]
    helper.join(LIMIT)
    assert found == [5, True]


def test_greenlets_of_the_programs_own_within_a_green_thread() -> None:
    channel = motet.Channel[int](0)

    def inner() -> int:
        return channel.get() + 1

    def work() -> int:
        result: int = greenlet.greenlet(inner).switch()
        return result

    thread = green.spawn(work)
    green.sleep(0)
    channel.put(1)
    assert thread.result() == 2


def test_a_pool_runs_so_many_at_a_time() -> None:
    pool, running, most = green.Pool(3), [0], [0]

    def work(number: int) -> int:
        running[0] += 1
        most[0] = max(most[0], running[0])
        green.sleep(0.001)
        running[0] -= 1
        return number * 2

    assert list(pool.map(work, range(10))) == list(range(0, 20, 2))
    assert most == [3]
    assert len(pool) == 0
    sleeping = [pool.spawn(green.sleep, LIMIT) for _ in range(3)]
    assert pool.join(0.01) is False
    assert pool.kill() is True
    assert all(thread.done for thread in sleeping)
    assert pool.spawn(len, "abc").result() == 3
    with pytest.raises(ValueError, match="size must be one or more"):
        green.Pool(0)


def test_many() -> None:
    channel = motet.Channel[int](None)

    def work(number: int) -> None:
        green.sleep(0)
        channel.put(number)

    threads = [green.spawn(work, number) for number in range(5000)]
    assert len(green.join(threads)) == 5000
    channel.close()
    assert sorted(channel) == list(range(5000))


def test_those_that_still_wait_end_with_the_loop() -> None:
    channel, events = motet.Channel[int](0), []

    class Thing:
        pass

    def work(name: str, _thing: Thing) -> None:
        try:
            channel.get()
        finally:
            events.append(name)
            # It cannot wait any more.
            try:
                green.sleep(LIMIT)
            except green.GreenletExit:
                events.append(f"{name} again")

    async def main() -> tuple[list[Any], weakref.ref[Thing]]:
        thing = Thing()
        threads = [green.spawn(work, name, thing) for name in "ab"]
        never = green.spawn_later(LIMIT, pytest.fail, "it never begins")
        await asyncio.sleep(0.01)
        return [*threads, never], weakref.ref(thing)

    threads, gone = motet.run(main())
    assert sorted(events) == ["a", "a again", "b", "b again"]
    assert [thread.done for thread in threads] == [True, True, False]
    assert channel.statistics()["waiters"] == []
    del threads
    gc.collect()
    assert gone() is None


def test_an_error_that_nobody_asks_for_is_told_of(run_program: RunProgram) -> None:
    result = run_program("""
        from motet import green
        green.spawn(divmod, 1, 0)
        green.sleep(0)
        asked = green.spawn(divmod, 2, 0)
        asked.join()
        asked.exception
        print("end")
    """)
    assert result.stdout == "end\n"
    assert 'green thread "green-1" raised, and nobody asked for its result' in result.stderr
    assert result.stderr.count("ZeroDivisionError") == 1


@pytest.mark.parametrize("where", ["main", "green"])
def test_ctrl_c(run_program: RunProgram, where: str) -> None:
    work = "green.sleep(60)" if where == "main" else "while True: pass"
    result = run_program(f"""
        import os, signal, threading
        from motet import green

        def work():
            {work}

        thread = green.spawn(work)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            thread.join()
        except KeyboardInterrupt:
            print("interrupted")
        print(green.spawn(len, "abc").result())
    """)
    assert result.stdout.split() == ["interrupted", "3"], result.stderr


def test_threads_with_green_threads_of_their_own() -> None:
    found: list[int] = []

    def in_thread(number: int) -> None:
        def work() -> int:
            return sum(thread.result() for thread in [green.spawn(pow, number, 2) for _ in range(3)])

        found.append(green.run(work))

    threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(found) == [0, 3, 12, 27]


def test_without_greenlet_the_error_says_what_to_do(run_program: RunProgram) -> None:
    result = run_program("""
        import sys
        sys.modules["greenlet"] = None
        import motet
        print(motet.Channel(1))
        from motet._motet import spawn
        try:
            spawn(len, ()).join()
        except ImportError as error:
            print(error)
    """)
    assert "pip install greenlet" in result.stdout, result.stderr
