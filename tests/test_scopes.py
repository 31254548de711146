"""Scopes: children end before their scope does, in plain, green and async code."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import motet
import pytest
from bodies import LIMIT
from conftest import MakeLoop, RunProgram
from motet import green

# ruff: noqa: PT012

pytestmark = pytest.mark.thread_unsafe(reason="green threads belong to the thread")


def in_plain_code(function: Callable[[], Any]) -> Any:
    return function()


def in_a_green_thread(function: Callable[[], Any]) -> Any:
    return green.spawn(function).result()


@pytest.fixture(params=[in_plain_code, in_a_green_thread])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function that has a plain scope."""
    runner: Callable[[Callable[[], Any]], Any] = request.param
    return runner


def nap_until_cancelled(events: list[str], name: str = "child") -> None:
    try:
        motet.sleep(LIMIT)
    except motet.Cancelled:
        events.append(name)
        raise


async def anap_until_cancelled(events: list[str], name: str = "child") -> None:
    try:
        await asyncio.sleep(LIMIT)
    except asyncio.CancelledError:
        events.append(name)
        raise


def fail(seconds: float = 0.0, message: str = "because") -> None:
    motet.sleep(seconds)
    raise LookupError(message)


async def afail(seconds: float = 0.0, message: str = "because") -> None:
    await asyncio.sleep(seconds)
    raise LookupError(message)


class TestPlain:
    def test_the_block_waits_for_its_children(self, run: Any) -> None:
        def block() -> list[int]:
            found: list[int] = []

            def work(number: int) -> None:
                motet.sleep(0.01)
                found.append(number)

            with motet.Scope() as scope:
                for number in range(3):
                    scope.start_soon(work, number)
                assert found == []
            assert not scope.cancelled
            return found

        assert sorted(run(block)) == [0, 1, 2]

    def test_one_that_fails_has_the_others_cancelled(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            with pytest.raises(ExceptionGroup) as caught, motet.Scope(name="work") as scope:
                scope.start_soon(nap_until_cancelled, events, "one")
                scope.start_soon(nap_until_cancelled, events, "other")
                scope.start_soon(fail, 0.01)
                try:
                    motet.sleep(LIMIT)
                finally:
                    events.append("body")
            assert caught.group_contains(LookupError, match="because")
            assert caught.value.message == "in work"
            assert len(caught.value.exceptions) == 1
            return events

        assert sorted(run(block)) == ["body", "one", "other"]

    def test_or_the_others_go_on(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []

            def work() -> None:
                motet.sleep(0.03)
                events.append("done")

            with pytest.raises(ExceptionGroup) as caught, motet.Scope(on_error="wait") as scope:
                scope.start_soon(fail, 0, "first")
                scope.start_soon(fail, 0.01, "second")
                scope.start_soon(work)
            assert sorted(str(error) for error in caught.value.exceptions) == ["first", "second"]
            return events

        assert run(block) == ["done"]

    def test_the_bodys_own_error(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            with pytest.raises(ExceptionGroup) as caught, motet.Scope() as scope:
                scope.start_soon(nap_until_cancelled, events)
                motet.sleep(0.01)
                raise ValueError("body")
            assert caught.group_contains(ValueError, match="body")
            return events

        assert run(block) == ["child"]

    def test_cancelling(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            with motet.Scope() as scope:
                scope.start_soon(nap_until_cancelled, events)
                motet.sleep(0.01)
                scope.cancel()
                scope.cancel()
                with pytest.raises(motet.Cancelled):
                    motet.checkpoint()
                motet.Channel[int](0).get()
                pytest.fail("it was cancelled")
            assert scope.cancelled
            assert not scope.timed_out
            motet.checkpoint()
            return events

        assert run(block) == ["child"]

    def test_it_is_delivered_again(self, run: Any) -> None:
        def block() -> int:
            times = 0
            with motet.Scope() as scope:
                scope.cancel()
                for wait in (motet.Event().wait, motet.Channel[int](0).get, motet.Lock().acquire):
                    try:
                        wait()
                    except motet.Cancelled:
                        times += 1
                with motet.Lock():
                    # Nothing to wait for.
                    pass
            return times

        # The lock was free.
        assert run(block) == 2

    def test_a_deadline(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            begun = time.monotonic()
            with (
                pytest.raises(TimeoutError, match="in time took too long"),
                motet.Scope(timeout=0.03, name="in time") as scope,
            ):
                scope.start_soon(nap_until_cancelled, events)
                try:
                    motet.sleep(LIMIT)
                finally:
                    events.append("body")
            assert scope.timed_out
            assert time.monotonic() - begun < LIMIT
            with pytest.raises(TimeoutError), motet.Scope(deadline=time.monotonic() + 0.01) as scope:
                # The body does not wait, the children do.
                scope.start_soon(nap_until_cancelled, events)
            with motet.Scope(timeout=LIMIT):
                pass
            return events

        assert sorted(run(block)) == ["body", "child", "child"]

    def test_the_deadline_of_an_outer_scope(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            with pytest.raises(TimeoutError, match="outer"), motet.Scope(timeout=0.03, name="outer"):
                with motet.Scope(timeout=LIMIT, name="inner") as inner:
                    inner.start_soon(nap_until_cancelled, events)
                    motet.sleep(LIMIT)
                pytest.fail("it was cancelled")
            assert inner.cancelled
            assert not inner.timed_out
            return events

        assert run(block) == ["child"]

    def test_a_shield(self, run: Any) -> None:
        def block() -> list[str]:
            events: list[str] = []
            with motet.Scope() as outer:
                outer.cancel()
                with motet.Scope(shield=True):
                    motet.sleep(0.01)
                    events.append("cleaned up")
                motet.sleep(LIMIT)
                pytest.fail("it was cancelled")
            return events

        assert run(block) == ["cleaned up"]

    def test_a_child_that_says_when_it_is_ready(self, run: Any) -> None:
        def serve(port: int, *, ready: Callable[[int], None]) -> None:
            motet.sleep(0.01)
            ready(port + 1)
            motet.sleep(LIMIT)

        def never(*, ready: Callable[[int], None]) -> None:
            pass

        def block() -> int:
            with motet.Scope() as scope:
                port: int = scope.start(serve, 80)
                with pytest.raises(RuntimeError, match=r"never ended before it called ready\(\)"):
                    scope.start(never)
                with pytest.raises(ValueError, match="worker process cannot say that it is ready"):
                    scope.start(never, on="process")
                scope.cancel()
            return port

        assert run(block) == 81

    def test_places(self, run: Any) -> None:
        def block() -> set[int]:
            threads: set[int] = set()
            with motet.Scope() as scope:
                scope.start_soon(lambda: threads.add(threading.get_ident()), on="thread")
            return threads

        assert run(block) != {threading.get_ident()}

    def test_what_cannot_be_started(self) -> None:
        with motet.Scope() as scope:
            with pytest.raises(TypeError, match="afail is a coroutine function: it needs 'async with Scope"):
                scope.start_soon(afail)
            with pytest.raises(TypeError, match="can only run as a task, not on='thread'"):
                scope.start_soon(afail, on="thread")
            with pytest.raises(TypeError, match=r"say on='thread'"):
                scope.start_soon(fail, on="task")
            with pytest.raises(ValueError, match=r"on must be 'task', .*, not 'moon'"):
                scope.start_soon(fail, on="moon")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"a scope starts functions, not int; leave the \(\) away"):
                scope.start_soon(7)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="starts nothing any more"):
            scope.start_soon(fail)
        with pytest.raises(RuntimeError, match="was entered before"), scope:
            pass
        with pytest.raises(ValueError, match="timeout must be"):
            motet.Scope(timeout=-1)
        with pytest.raises(ValueError, match="on_error must be 'cancel' or 'wait'"):
            motet.Scope(on_error="ignore")  # type: ignore[arg-type]

    def test_a_child_may_start_others(self, run: Any) -> None:
        def block() -> int:
            done: list[int] = []

            def grow(scope: motet.Scope, depth: int) -> None:
                motet.sleep(0.001)
                done.append(depth)
                if depth:
                    scope.start_soon(grow, scope, depth - 1)
                    scope.start_soon(grow, scope, depth - 1)

            with motet.Scope() as scope:
                scope.start_soon(grow, scope, 3)
            return len(done)

        assert run(block) == 15

    @pytest.mark.parametrize(
        "wait", ["get", "put", "acquire", "semaphore", "event", "condition", "barrier", "select", "sleep"]
    )
    def test_every_wait_of_a_thread_is_cancelled(self, wait: str, run: Any) -> None:
        held, full = motet.Lock(), motet.Channel[int](1)
        held.acquire()
        full.put(1)
        condition, barrier = motet.Condition(), motet.Barrier(2)

        def wait_for_condition() -> None:
            with condition:
                condition.wait()

        waits: dict[str, Callable[[], Any]] = {
            "get": motet.Channel[int](0).get,
            "put": lambda: full.put(2),
            "acquire": held.acquire,
            "semaphore": motet.Semaphore(0).acquire,
            "event": motet.Event().wait,
            "condition": wait_for_condition,
            "barrier": barrier.wait,
            "select": lambda: motet.select(motet.Event().waiting()),
            "sleep": lambda: motet.sleep(LIMIT),
        }

        def block() -> None:
            with motet.Scope() as scope:
                for on in ("thread", "green"):
                    scope.start_soon(waits[wait], on=on)  # type: ignore[arg-type]
                motet.sleep(0.02)
                scope.cancel()

        run(block)
        assert held.statistics()["waiters"] == full.statistics()["waiters"] == []
        assert not condition.lock.locked()


class TestAsync:
    @pytest.fixture
    def arun(self, make_loop: MakeLoop) -> Callable[[Any], Any]:
        def run(coroutine: Any) -> Any:
            with asyncio.Runner(loop_factory=make_loop) as runner:
                return runner.run(coroutine)

        return run

    def test_the_block_waits_for_its_children(self, arun: Any) -> None:
        async def main() -> None:
            found: list[int] = []

            async def work(number: int) -> None:
                await asyncio.sleep(0.01)
                found.append(number)

            async with motet.Scope() as scope:
                for number in range(3):
                    scope.start_soon(work, number)
                scope.start_soon(found.append, 3, on="thread")
            assert sorted(found) == [0, 1, 2, 3]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

        arun(main())

    def test_one_that_fails_has_the_others_cancelled(self, arun: Any) -> None:
        async def main() -> None:
            events: list[str] = []
            with pytest.raises(ExceptionGroup) as caught:
                async with motet.Scope() as scope:
                    scope.start_soon(anap_until_cancelled, events, "task")
                    scope.start_soon(nap_until_cancelled, events, "thread", on="thread")
                    scope.start_soon(afail, 0.02)
                    try:
                        await asyncio.sleep(LIMIT)
                    finally:
                        events.append("body")
            assert caught.group_contains(LookupError, match="because")
            assert sorted(events) == ["body", "task", "thread"]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
            await asyncio.sleep(0.01)

        arun(main())

    def test_cancelling_is_delivered_again(self, arun: Any) -> None:
        async def main() -> None:
            times = [0]

            async def stubborn() -> None:
                for _ in range(3):
                    try:
                        await asyncio.sleep(LIMIT)
                    except asyncio.CancelledError:
                        times[0] += 1

            async with motet.Scope() as scope:
                scope.start_soon(stubborn)
                await asyncio.sleep(0.01)
                scope.cancel()
                await stubborn()
                await asyncio.sleep(LIMIT)
                pytest.fail("it was cancelled")
            assert times == [6]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
            await asyncio.sleep(0.01)

        arun(main())

    def test_a_deadline(self, arun: Any) -> None:
        async def main() -> None:
            events: list[str] = []
            with pytest.raises(TimeoutError, match="took too long"):
                async with motet.Scope(timeout=0.02) as scope:
                    scope.start_soon(anap_until_cancelled, events)
                    await asyncio.sleep(LIMIT)
            assert scope.timed_out
            assert events == ["child"]
            with pytest.raises(TimeoutError, match="outer"):
                async with motet.Scope(timeout=0.02, name="outer"):
                    async with motet.Scope(timeout=LIMIT) as inner:
                        inner.start_soon(anap_until_cancelled, events)
                        await asyncio.sleep(LIMIT)
                    pytest.fail("it was cancelled")
            assert events == ["child", "child"]
            await asyncio.sleep(0.01)

        arun(main())

    def test_a_shield(self, arun: Any) -> None:
        async def main() -> None:
            events = []
            async with motet.Scope() as outer:
                try:
                    await asyncio.sleep(0)
                    outer.cancel()
                    await asyncio.sleep(LIMIT)
                finally:
                    async with motet.Scope(shield=True):
                        await asyncio.sleep(0.03)
                        events.append("cleaned up")
            assert events == ["cleaned up"]

        arun(main())

    def test_cancelled_from_outside(self, arun: Any) -> None:
        async def main() -> None:
            events: list[str] = []

            async def work() -> None:
                async with motet.Scope() as scope:
                    scope.start_soon(anap_until_cancelled, events)
                    await asyncio.sleep(LIMIT)

            task = asyncio.create_task(work())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert events == ["child"]

            async def ending() -> None:
                async with motet.Scope() as scope:
                    scope.start_soon(anap_until_cancelled, events)

            task = asyncio.create_task(ending())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert events == ["child", "child"]

        arun(main())

    def test_together_with_asyncios_own(self, arun: Any) -> None:
        async def main() -> None:
            events: list[str] = []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02), motet.Scope() as scope:
                    scope.start_soon(anap_until_cancelled, events, "timeout")
                    await asyncio.sleep(LIMIT)
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group, motet.Scope() as scope:
                    scope.start_soon(anap_until_cancelled, events, "group")
                    group.create_task(afail(0.01))
                    await asyncio.sleep(LIMIT)
            assert caught.group_contains(LookupError)
            async with motet.Scope() as scope, asyncio.TaskGroup() as group:
                group.create_task(anap_until_cancelled(events, "within"))
                await asyncio.sleep(0.01)
                scope.cancel()
            assert events == ["timeout", "group", "within"]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
            await asyncio.sleep(0.01)

        arun(main())

    def test_cancelled_as_the_last_child_ends(self, arun: Any) -> None:
        async def main() -> None:
            for turns in range(6):

                async def work(turns: int = turns) -> str:
                    async with motet.Scope() as scope:
                        scope.start_soon(asyncio.sleep, 0)
                        for _ in range(turns):
                            await asyncio.sleep(0)
                    return "done"

                task = asyncio.create_task(work())
                for _ in range(3):
                    await asyncio.sleep(0)
                task.cancel()
                done = await asyncio.wait([task], timeout=LIMIT)
                assert task in done[0]
                assert task.cancelled() or task.result() == "done"

        arun(main())

    def test_a_child_that_says_when_it_is_ready(self, arun: Any) -> None:
        async def main() -> None:
            async def serve(*, ready: Callable[[str], None]) -> None:
                await asyncio.sleep(0.01)
                ready("there")
                await asyncio.sleep(LIMIT)

            async with motet.Scope() as scope:
                assert await scope.astart(serve) == "there"
                scope.cancel()

        arun(main())

    def test_a_plain_function_needs_a_place(self, arun: Any) -> None:
        async def main() -> None:
            async with motet.Scope() as scope:
                with pytest.raises(TypeError, match="fail is no coroutine function: say on='thread'"):
                    scope.start_soon(fail)
                with pytest.raises(TypeError, match="can only run as a task"):
                    scope.start_soon(afail, on="thread")
            with pytest.raises(motet.WouldBlock, match="use 'async with Scope"), motet.Scope():
                pass

        arun(main())


def test_children_in_worker_processes() -> None:
    with motet.Scope() as scope:
        scope.start_soon(pow, 2, 3, on="process")
    begun = time.monotonic()
    with pytest.raises(ExceptionGroup) as caught, motet.Scope() as scope:
        scope.start_soon(time.sleep, LIMIT, on="process")
        scope.start_soon(divmod, 1, 0, on="process")
    assert caught.group_contains(ZeroDivisionError)
    assert time.monotonic() - begun < LIMIT


def test_green_threads_and_tasks_in_one_scope() -> None:
    async def main() -> None:
        events: list[str] = []
        async with motet.Scope() as scope:
            scope.start_soon(nap_until_cancelled, events, "green", on="green")
            scope.start_soon(nap_until_cancelled, events, "thread", on="thread")
            scope.start_soon(anap_until_cancelled, events, "task")
            await asyncio.sleep(0.02)
            scope.cancel()
        assert sorted(events) == ["green", "task", "thread"]

    motet.run(main())


def test_ctrl_c_ends_the_children(run_program: RunProgram) -> None:
    result = run_program("""
        import motet, os, signal, threading

        def work():
            try:
                motet.sleep(60)
            finally:
                print("child")

        for body in (lambda: motet.sleep(60), lambda: None):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                with motet.Scope() as scope:
                    scope.start_soon(work)
                    body()
            except KeyboardInterrupt:
                print("interrupted")
    """)
    assert result.stdout.split() == ["child", "interrupted"] * 2, result.stderr
