"""Waits and what happens around them: signals, loops that would block or are gone, forks, exits."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
import time
from typing import Any

import motet
import pytest
import trio
from bodies import LIMIT
from conftest import MakeLoop, RunProgram

WAITS = {
    "get": "motet.Channel(0).get()",
    "get for some time": "motet.Channel(0).get(timeout=60)",
    "put": "motet.Channel(0).put(1)",
    "acquire": "held.acquire()",
    "semaphore": "motet.Semaphore(0).acquire()",
    "event": "motet.Event().wait()",
    "condition": "condition.wait()",
    "barrier": "motet.Barrier(2).wait()",
    "select": "motet.select(motet.Channel(0).getting(), motet.Event().waiting())",
    "sleep": "motet.sleep(60)",
}


@pytest.mark.thread_unsafe(reason="signals")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_ends_any_wait_of_the_main_thread(run_program: RunProgram, wait: str) -> None:
    # Also one that comes as the wait begins: the delays differ.
    result = run_program(f"""
        import motet, os, signal, threading, time
        held = motet.Lock()
        held.acquire()
        condition = motet.Condition()
        condition.lock.acquire()
        for delay in (0, 0.001, 0.05):
            def interrupt():
                time.sleep(delay)
                os.kill(os.getpid(), signal.SIGINT)
            try:
                threading.Thread(target=interrupt).start()
                {wait}
            except KeyboardInterrupt:
                print("interrupted")
    """)
    assert result.stdout.split() == ["interrupted"] * 3, result.stderr


@pytest.mark.thread_unsafe(reason="signals")
def test_a_signal_that_raises_nothing_ends_no_wait() -> None:
    channel, seen = motet.Channel[int](0), []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        threading.Timer(0.1, channel.put, (7,)).start()
        assert channel.get(timeout=LIMIT) == 7
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


@pytest.mark.thread_unsafe(reason="signals")
def test_what_an_interrupted_get_was_given_is_the_next_ones() -> None:
    class Interrupted(Exception):
        pass

    channel = motet.Channel[int](0)

    def handle(number: int, frame: object) -> None:
        # In the main thread, which waits; what it is given now it will not return.
        threading.Thread(target=channel.put, args=(7,)).start()
        while not channel.statistics()["put"]:
            time.sleep(0.001)
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interrupted):
            channel.get(timeout=LIMIT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert channel.try_get() == 7


BLOCKING: dict[str, Any] = {
    "Channel.get": lambda: motet.Channel[int](0).get(timeout=1),
    "Channel.put": lambda: motet.Channel[int](0).put(1),
    "Semaphore.acquire": lambda: motet.Semaphore(0).acquire(),
    "Event.wait": lambda: motet.Event().wait(),
    "Barrier.wait": lambda: motet.Barrier(2).wait(),
    "motet.select": lambda: motet.select(motet.Channel[int](0).getting()),
    "motet.sleep": lambda: motet.sleep(1),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_a_call_that_would_block_the_loop_names_the_right_one(name: str, make_loop: MakeLoop) -> None:
    async def main() -> None:
        with pytest.raises(
            motet.WouldBlock, match=rf"^{name}\(\) would block the event loop .* use 'await "
        ) as caught:
            BLOCKING[name]()
        assert isinstance(caught.value, RuntimeError)
        # What can be done at once is done.
        channel = motet.Channel[int](1)
        channel.put(1)
        assert channel.get() == 1

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    trio.run(main)


def test_a_wait_that_is_awaited_nowhere() -> None:
    with pytest.raises(RuntimeError, match=r"Channel\.aget\(\) is awaited outside of an event loop"):
        motet.Channel[int](0).aget().send(None)


def test_a_wait_that_is_never_awaited_is_told_of() -> None:
    channel = motet.Channel[int](1)
    with pytest.warns(RuntimeWarning, match=r"^Channel\.aput\(\) was never awaited"):
        channel.aput(1)
    assert len(channel) == 0
    channel.getting()


def test_a_wait_is_awaited_once(make_loop: MakeLoop) -> None:
    async def main() -> None:
        event = motet.Event()
        event.set()
        waiting = event.waiting()
        assert await waiting
        with pytest.raises(RuntimeError, match="was awaited or selected before"):
            await waiting

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_what_asyncio_offers_for_waiting(make_loop: MakeLoop) -> None:
    async def main() -> None:
        channel = motet.Channel[int](0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.aget(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await channel.aget()
        assert await asyncio.gather(channel.aget(), channel.aput(3)) == [3, None]
        shielded = asyncio.shield(asyncio.ensure_future(channel.aget()))
        await channel.aput(4)
        assert await shielded == 4
        async with asyncio.TaskGroup() as group:
            task = group.create_task(channel.aget())  # type: ignore[arg-type]
            group.create_task(channel.aput(5))  # type: ignore[arg-type]
        assert task.result() == 5
        assert channel.statistics()["waiters"] == []

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_a_task_that_is_cancelled_after_it_was_given_something(make_loop: MakeLoop) -> None:
    async def main() -> None:
        channel = motet.Channel[int](0)
        task = asyncio.ensure_future(channel.aget())
        await asyncio.sleep(0.01)
        # It is given the item and cancelled before it runs again.
        channel.try_put(1)
        task.cancel("because")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert channel.try_get() == 1

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_the_message_of_a_cancellation_arrives(make_loop: MakeLoop) -> None:
    async def main() -> None:
        async def wait() -> str:
            try:
                await motet.Channel[int](0).aget()
            except asyncio.CancelledError as error:
                return str(error)
            return "not cancelled"

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.01)
        task.cancel("because")
        assert await task == "because"

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_a_task_goes_on_in_its_context(make_loop: MakeLoop) -> None:
    variable = contextvars.ContextVar[str]("variable", default="outside")

    async def main() -> None:
        channel = motet.Channel[int](0)

        async def wait() -> str:
            variable.set("inside")
            await channel.aget()
            return variable.get()

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.01)
        await asyncio.to_thread(channel.put, 1)
        assert await task == "inside"
        assert variable.get() == "outside"

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_what_a_task_of_a_closed_loop_was_given_is_the_next_ones(make_loop: MakeLoop) -> None:
    channel = motet.Channel[int](1)
    loop = make_loop()
    task = loop.create_task(channel.aget())  # type: ignore[arg-type]
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    channel.put(1, timeout=LIMIT)
    assert channel.get(timeout=LIMIT) == 1
    assert not task.done()
    task._log_destroy_pending = False


def test_sleeping(make_loop: MakeLoop) -> None:
    async def main() -> None:
        order = []

        async def note(number: int) -> None:
            order.append(number)
            await motet.asleep(0)
            order.append(number)

        await asyncio.gather(note(1), note(2))
        assert order == [1, 2, 1, 2]
        begun = time.monotonic()
        await motet.asleep(0.02)
        assert time.monotonic() - begun >= 0.02

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    begun = time.monotonic()
    motet.sleep(0.02)
    motet.sleep(0)
    assert time.monotonic() - begun >= 0.02
    with pytest.raises(ValueError, match="not negative"):
        motet.sleep(-1)

    async def in_trio() -> None:
        await motet.asleep(0)
        await motet.asleep(0.02)

    trio.run(in_trio)


def test_trio_as_a_guest_of_the_loop(make_loop: MakeLoop) -> None:
    channel = motet.Channel[int](0)

    async def in_trio() -> list[int]:
        return [await channel.aget() for _ in range(3)]

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            in_trio,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: done.set_result(outcome),
            host_uses_signal_set_wakeup_fd=True,
        )
        for number in range(3):
            await channel.aput(number)
        return (await done).unwrap()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) == [0, 1, 2]


def test_threads_that_wait_hold_up_no_exit(run_program: RunProgram) -> None:
    result = run_program("""
        import motet, threading
        for _ in range(3):
            threading.Thread(target=motet.Channel(0).get, daemon=True).start()
        print("end")
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")


@pytest.mark.thread_unsafe(reason="forks")
def test_a_forked_child_has_channels_of_its_own(run_program: RunProgram) -> None:
    result = run_program("""
        import motet, os
        channel = motet.Channel(2)
        channel.put(1)
        pid = os.fork()
        found = [channel.get()]
        channel.put(2)
        found.append(channel.get())
        if pid == 0:
            os._exit(0 if found == [1, 2] else 1)
        print(os.waitpid(pid, 0)[1], found)
    """)
    assert result.stdout == "0 [1, 2]\n", result.stderr
