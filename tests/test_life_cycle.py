"""Running, stopping and closing a loop: what each does in which state, and how it refuses."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop


async def nothing() -> None:
    """Ends at once."""


def test_run_until_complete_returns_or_raises_what_the_task_does(make_loop: MakeLoop) -> None:
    async def fail() -> None:
        raise LookupError("on purpose")

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(asyncio.sleep(0, "result")) == "result"
        with pytest.raises(LookupError, match="on purpose"):
            loop.run_until_complete(fail())
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        assert loop.run_until_complete(future) == 1


def test_a_stop_before_the_run_ends_it_after_one_round(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        ran: list[int] = []
        loop.call_soon(ran.append, 1)
        loop.stop()
        loop.run_forever()
        assert ran == [1]
        loop.call_soon(ran.append, 2)
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert ran == [1, 2]


def test_a_stop_during_run_until_complete_is_an_error(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
            loop.run_until_complete(loop.create_future())


def test_running_within_a_run_is_an_error(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop, closing(make_loop()) as other:

        async def main() -> list[str]:
            texts = []
            for runner in (loop, other):
                with pytest.raises(RuntimeError) as raised:
                    runner.run_until_complete(runner.create_future())
                texts.append(str(raised.value))
            return texts

        assert loop.run_until_complete(main()) == [
            "This event loop is already running",
            "Cannot run the event loop while another loop is running",
        ]


def test_a_refused_run_leaves_the_running_one_alone() -> None:
    with closing(motet.new_event_loop()) as loop, closing(motet.new_event_loop()) as other:

        async def main() -> bool:
            for runner in (loop, other):
                with pytest.raises(RuntimeError):
                    runner.run_forever()
            await asyncio.sleep(0.001)
            return asyncio.get_running_loop() is loop

        assert loop.run_until_complete(main())


def test_a_running_loop_cannot_be_closed(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:

        async def main() -> None:
            loop.close()

        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.run_until_complete(main())
        assert not loop.is_closed()


def test_the_running_loop_is_known_while_it_runs(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:

        async def main() -> tuple[bool, bool]:
            return asyncio.get_running_loop() is loop, loop.is_running()

        assert not loop.is_running()
        assert loop.run_until_complete(main()) == (True, True)
        assert not loop.is_running()
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()


CLOSED_CALLS: dict[str, Callable[[asyncio.AbstractEventLoop], Any]] = {
    "call_soon": lambda loop: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(print),
    "call_later": lambda loop: loop.call_later(1, print),
    "call_at": lambda loop: loop.call_at(1, print),
    "run_forever": lambda loop: loop.run_forever(),
    "add_reader": lambda loop: loop.add_reader(0, print),
    "add_writer": lambda loop: loop.add_writer(1, print),
    "run_in_executor": lambda loop: loop.run_in_executor(None, print),
    "add_signal_handler": lambda loop: loop.add_signal_handler(10, print),
}


@pytest.mark.parametrize("name", CLOSED_CALLS)
def test_a_closed_loop_refuses(make_loop: MakeLoop, name: str) -> None:
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        CLOSED_CALLS[name](loop)


def test_a_closed_loop_refuses_coroutines(make_loop: MakeLoop) -> None:
    loop = make_loop()
    loop.close()
    runs: list[Callable[[Coroutine[Any, Any, None]], Any]] = [loop.create_task, loop.run_until_complete]
    for run in runs:
        coroutine = nothing()
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            run(coroutine)
        coroutine.close()


def test_what_a_closed_loop_still_does(make_loop: MakeLoop) -> None:
    loop = make_loop()
    loop.close()
    loop.close()
    loop.stop()
    assert loop.is_closed()
    assert not loop.is_running()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False
    assert loop.create_future().get_loop() is loop
    assert loop.time() > 0
    assert "closed=True" in repr(loop)


def test_closing_drops_what_waits(make_loop: MakeLoop) -> None:
    ran: list[str] = []
    loop = make_loop()
    loop.call_soon(ran.append, "ready")
    loop.call_later(0, ran.append, "timer")
    loop.call_soon_threadsafe(ran.append, "sent")
    loop.close()
    assert ran == []


def test_an_unclosed_loop_warns() -> None:
    def forget() -> None:
        motet.new_event_loop()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        forget()


def test_run_refuses_within_a_running_loop() -> None:
    async def main() -> None:
        coroutine = nothing()
        with pytest.raises(RuntimeError, match=r"motet\.run\(\) cannot be called from a running event loop"):
            motet.run(coroutine)

    motet.run(main())


def test_run_cancels_what_is_left_and_closes() -> None:
    ended: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loops.extend([loop, loop])
        ended.append("main")
        waiting = loop.create_task(wait_for_ever())
        await asyncio.sleep(0)
        return f"done {waiting.done()}"

    assert motet.run(main()) == "done False"
    assert ended == ["main", "cancelled"]
    assert loops[0].is_closed()


def test_run_sets_debug_mode() -> None:
    async def mode() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert motet.run(mode(), debug=True) is True
    assert motet.run(mode(), debug=False) is False


def test_the_loop_is_asyncios() -> None:
    with closing(motet.new_event_loop()) as loop:
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert isinstance(loop, asyncio.BaseEventLoop)
        assert type(loop.create_future()) is asyncio.Future
        task = loop.create_task(nothing())
        assert type(task) is asyncio.Task
        loop.run_until_complete(task)


def test_the_loop_serves_as_a_loop_factory() -> None:
    async def main() -> type:
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=motet.new_event_loop) as runner:
        assert runner.run(main()) is motet.EventLoop


def test_a_task_factory_makes_the_tasks(make_loop: MakeLoop) -> None:
    made: list[dict[str, Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        made.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)

    with closing(make_loop()) as loop:
        assert loop.get_task_factory() is None
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        task = loop.create_task(nothing(), name="named")
        loop.run_until_complete(task)
        assert task.get_name() == "named"
        loop.set_task_factory(None)
        loop.run_until_complete(nothing())
    assert len(made) == 1


def test_tasks_take_names_and_contexts(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        task = loop.create_task(nothing(), name="given")
        assert task.get_name() == "given"
        loop.run_until_complete(task)
        with pytest.raises(TypeError, match="unexpected"):
            loop.create_task(None, unexpected=1)  # type: ignore[call-arg, arg-type]
