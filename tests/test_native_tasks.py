"""motet's own tasks and futures are held against asyncio's: the same programs, on both."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop, RunProgram

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def native_loop() -> asyncio.AbstractEventLoop:
    loop = motet.new_event_loop()
    loop.set_task_factory(motet.task_factory)
    return loop


def foreign_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(motet.task_factory)
    return loop


KINDS = {"stock": asyncio.new_event_loop, "native": native_loop, "foreign": foreign_loop}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    """Loops with stock tasks, with motet's tasks on motet's loop, and with motet's tasks on asyncio's."""
    maker: MakeLoop = request.param
    return maker


def runner_on(make_loop: MakeLoop, debug: bool = False) -> Run:
    """A loop for each call: the tests also run in several threads at once."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=make_loop, debug=debug) as runner:
            return runner.run(main)

    return run


@pytest.fixture
def run(make_loop: MakeLoop) -> Run:
    return runner_on(make_loop)


@pytest.fixture
def run_natively() -> Run:
    return runner_on(native_loop)


async def busy(log: list[str]) -> None:
    """A bit of everything, each turn of which leaves a line."""
    loop = asyncio.get_running_loop()

    async def worker(name: str, turns: int) -> str:
        try:
            for turn in range(turns):
                log.append(f"{name} {turn}")
                await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            log.append(f"{name} cancelled {error.args}")
            raise
        finally:
            log.append(f"{name} ends")
        return name

    future = loop.create_future()
    future.add_done_callback(lambda _: log.append("callback before"))
    waiting = [asyncio.create_task(wait_for(future, name, log)) for name in "ab"]
    await asyncio.sleep(0)
    future.add_done_callback(lambda _: log.append("callback behind"))
    loop.call_soon(future.set_result, "value")
    log.append(str(await asyncio.gather(worker("x", 3), worker("y", 2), *waiting)))

    victim = asyncio.create_task(worker("z", 100))
    await asyncio.sleep(0)
    log.append(f"{victim.cancel('reason')} {victim.cancelling()}")
    with pytest.raises(asyncio.CancelledError) as caught:
        await victim
    log.append(f"{caught.value.args} {victim.cancelled()} {victim.cancel()} {victim.cancelling()}")

    inner = asyncio.create_task(worker("shielded", 2))
    outer = asyncio.shield(inner)
    outer.cancel()
    log.append(str(await inner))
    try:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
    except TimeoutError:
        current = asyncio.current_task()
        assert current is not None
        log.append(f"timeout {current.cancelling()}")
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker("member", 50))
            group.create_task(fail(LookupError("group")))
    except* LookupError as errors:
        log.append(str(errors.exceptions))
    first, _ = await asyncio.wait([loop.create_future(), asyncio.create_task(worker("w", 1))], timeout=0.01)
    log.append(str([task.result() for task in first]))
    log.append(str([await next_done for next_done in asyncio.as_completed([worker("c", 2)])]))
    with pytest.raises(RuntimeError, match="cannot await on itself"):
        await asyncio.create_task(await_itself())
    with pytest.raises(RuntimeError, match="bad yield: 5"):
        await asyncio.create_task(YieldsOnce(5).wait())
    with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
        await asyncio.create_task(YieldsOnce(loop.create_future()).wait())


class YieldsOnce:
    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[object, None, None]:
        yield self._value

    async def wait(self) -> None:
        await self


async def await_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    await task


async def wait_for(future: asyncio.Future[str], name: str, log: list[str]) -> str:
    value = await future
    log.append(f"{name} got {value}")
    return value


async def fail(error: BaseException) -> None:
    raise error


async def forever() -> None:
    await asyncio.Event().wait()


def test_everything_happens_in_the_same_order() -> None:
    logs: list[list[str]] = []
    for maker in KINDS.values():
        for debug in (False, True):
            logs.append([])
            runner_on(maker, debug)(busy(logs[-1]))
    assert len(logs[0]) > 30
    assert all(log == logs[0] for log in logs)


def test_tasks_are_asyncios_to_whoever_asks(run_natively: Run) -> None:
    async def main() -> None:
        task = asyncio.create_task(forever(), name="waits")
        await asyncio.sleep(0)
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert asyncio.isfuture(task)
        assert type(task) is motet.Task
        assert type(asyncio.current_task()) is motet.Task
        assert asyncio.all_tasks() == {asyncio.current_task(), task}
        assert "Task pending name='waits' coro=<forever() running at" in repr(task)
        assert "wait_for=<Future pending cb=[Task.wakeup()]>" in repr(task)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["forever"]
        future = asyncio.get_running_loop().create_future()
        assert type(future) is motet.Future
        assert isinstance(future, asyncio.Future)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_natively(main())


def test_both_kinds_await_each_other(run_natively: Run) -> None:
    async def doubled(awaitable: Any) -> Any:
        return 2 * await awaitable

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        stock_future: asyncio.Future[int] = asyncio.Future()
        native_future = loop.create_future()
        stock = asyncio.Task(doubled(native_future), loop=loop)
        native = loop.create_task(doubled(stock_future))
        both = asyncio.Task(doubled(loop.create_task(doubled(stock))), loop=loop)
        loop.call_soon(native_future.set_result, 1)
        loop.call_soon(stock_future.set_result, 10)
        return await native, await both

    assert run_natively(main()) == (20, 8)


def test_cancellation_passes_between_both_kinds(run_natively: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make_inner, make_outer in ((asyncio.Task, motet.Task), (motet.Task, asyncio.Task)):
            inner: Any = make_inner(forever(), loop=loop)
            outer: Any = make_outer(asyncio.wait_for(inner, None), loop=loop)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            outer.cancel("why")
            with pytest.raises(asyncio.CancelledError, match="why"):
                await outer
            assert inner.cancelled()

    run_natively(main())


def test_contexts(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def child() -> int:
        variable.set(variable.get() + 1)
        await asyncio.sleep(0)
        return variable.get()

    async def main() -> None:
        variable.set(10)
        assert await asyncio.create_task(child()) == 11
        assert variable.get() == 10
        context = contextvars.copy_context()
        assert await asyncio.create_task(child(), context=context) == 11
        assert await asyncio.create_task(child(), context=context) == 12
        assert context[variable] == 12
        assert variable.get() == 10

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_start(run_natively: Run) -> None:
    async def immediate() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = motet.Task(immediate(), loop=loop, eager_start=True)
        assert done.done()
        assert done.result() is done
        assert done.get_coro() is None
        waiting = motet.Task(forever(), loop=loop, eager_start=True)
        assert not waiting.done()
        assert waiting in asyncio.all_tasks()
        assert asyncio.current_task() is not waiting
        waiting.cancel()

    run_natively(main())


def test_exceptions_that_nobody_asks_for_are_told(run: Run) -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: told.append(details))
        task = asyncio.create_task(fail(ValueError("lost")))
        await asyncio.sleep(0)
        del task
        future = loop.create_future()
        future.set_exception(KeyError("lost too"))
        del future
        seen = loop.create_future()
        seen.set_exception(KeyError("seen"))
        assert seen.exception() is not None
        del seen
        await asyncio.sleep(0)
        gc.collect()

    run(main())
    assert sorted((details["message"], repr(details["exception"])) for details in told) == [
        ("Future exception was never retrieved", "KeyError('lost too')"),
        ("Task exception was never retrieved", "ValueError('lost')"),
    ]


def test_a_task_that_goes_while_it_waits_is_told(run: Run) -> None:
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: told.append(details["message"]))
        task = asyncio.create_task(wait_for(loop.create_future(), "lost", []))
        await asyncio.sleep(0)
        gone = weakref.ref(task)
        del task
        gc.collect()
        assert gone() is None
        assert len(asyncio.all_tasks()) == 1

    run(main())
    assert told == ["Task was destroyed but it is pending!"]


@pytest.mark.thread_unsafe(reason="switches the collector off and counts references")
def test_finished_tasks_and_futures_leave_no_cycle(run_natively: Run) -> None:
    async def failing() -> None:
        with pytest.raises(LookupError):
            await asyncio.create_task(fail(LookupError()))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gc.collect()
        gc.disable()
        try:
            future, task = loop.create_future(), asyncio.create_task(asyncio.sleep(0, "value"))
            gone: list[weakref.ref[Any]] = [weakref.ref(future), weakref.ref(task)]
            loop.call_soon(future.set_result, 1)
            await asyncio.gather(future, task, asyncio.create_task(failing()))
            await asyncio.sleep(0)
            del future, task
            assert [reference() for reference in gone] == [None, None]
        finally:
            gc.enable()

    classes = motet.Task, motet.Future
    run_natively(main())
    gc.collect()
    before = [sys.getrefcount(kind) for kind in classes]
    run_natively(main())
    gc.collect()
    assert [sys.getrefcount(kind) for kind in classes] == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_run(make_loop: MakeLoop, error: type[BaseException]) -> None:
    loop = make_loop()
    try:
        task = loop.create_task(fail(error("enough")))
        with pytest.raises(error):
            loop.run_until_complete(task)
        assert task.done()
        assert type(task.exception()) is error
        assert loop.run_until_complete(asyncio.sleep(0, "goes on")) == "goes on"
    finally:
        loop.close()


def test_a_step_that_cannot_be_taken_reaches_the_exception_handler() -> None:
    told: list[dict[str, Any]] = []
    loop = native_loop()
    loop.set_exception_handler(lambda _, details: told.append(details))
    context = contextvars.copy_context()

    def enter_the_context_of_a_task() -> None:
        loop.create_task(forever_once, context=context)
        loop.call_soon(loop.stop)
        loop.run_forever()

    forever_once = forever()
    context.run(enter_the_context_of_a_task)
    loop.close()
    forever_once.close()
    assert "cannot enter context" in str(told[0]["exception"])
    assert "Exception in a step of <Task pending" in told[0]["message"]


def test_a_closed_loop_refuses(make_loop: MakeLoop) -> None:
    loop = make_loop()
    future = loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(1)
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_misuse_of_the_objects_themselves() -> None:
    loop = native_loop()
    blank = motet.Future.__new__(motet.Future)
    assert not blank.done()
    assert not blank.cancelled()
    for call in (blank.cancel, blank.get_loop, lambda: blank.set_result(1), lambda: iter(blank)):
        with pytest.raises(RuntimeError, match="not initialized"):
            call()
    with pytest.raises(asyncio.InvalidStateError):
        blank.result()
    with pytest.raises(TypeError, match="a coroutine was expected, got 5"):
        motet.Task(5, loop=loop)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'lop'"):
        motet.Future(lop=loop)  # type: ignore[call-arg]
    future: motet.Future[int] = motet.Future(loop=loop)
    with pytest.raises(AttributeError):
        del future._asyncio_future_blocking
    waiting = iter(future)
    assert next(waiting) is future
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(waiting)
    future.set_result(1)
    with pytest.raises(StopIteration) as stopped:
        next(waiting)
    assert stopped.value.value == 1
    assert list(waiting) == []
    loop.close()


def test_a_callback_may_change_the_callbacks(make_loop: MakeLoop) -> None:
    loop = make_loop()
    future = loop.create_future()

    class Equal:
        def __call__(self, _: object) -> None: ...

        def __eq__(self, other: object) -> bool:
            if other is wanted and future._callbacks:
                future.remove_done_callback(print)
            return other is wanted

        __hash__ = None  # type: ignore[assignment]

    def wanted(_: object) -> None: ...

    for callback in (Equal(), print, wanted, Equal()):
        future.add_done_callback(callback)
    assert future.remove_done_callback(wanted) == 3
    assert not future._callbacks
    loop.close()


def test_subclasses(run_natively: Run) -> None:
    class Named(motet.Task[Any]):
        cancelled_with: object = None

        def cancel(self, msg: Any = None) -> bool:
            self.cancelled_with = msg
            return super().cancel(msg)

    class Logged(motet.Future[Any]):
        def set_result(self, result: Any) -> None:
            super().set_result(f"<{result}>")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = Logged(loop=loop)
        task = Named(wait_for(future, "n", []), loop=loop)
        task.colour = "blue"  # type: ignore[attr-defined]
        loop.call_soon(future.set_result, 1)
        assert await task == "<1>"
        inner = Named(forever(), loop=loop)
        outer = asyncio.create_task(asyncio.wait_for(inner, None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        outer.cancel("both")
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert inner.cancelled()
        assert inner.cancelled_with in ("both", None)

    run_natively(main())


def test_a_wrong_thread_does_no_harm(run_natively: Run) -> None:
    """Not what asyncio allows; yet nothing may be lost or damaged, on free-threaded builds least of all."""
    threads, rounds = 4, 200

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(rounds):
            futures = [loop.create_future() for _ in range(threads)]
            barrier = threading.Barrier(threads)

            def meddle(
                futures: list[asyncio.Future[int]] = futures, barrier: threading.Barrier = barrier
            ) -> None:
                barrier.wait()
                for number, future in enumerate(futures):
                    assert isinstance(future._callbacks, list | None)
                    future.add_done_callback(id)
                    future.remove_done_callback(id)
                    with contextlib.suppress(asyncio.InvalidStateError):
                        future.set_result(number)

            meddlers = [threading.Thread(target=meddle) for _ in range(threads)]
            waiting = [asyncio.create_task(wait_for(future, "", [])) for future in futures]
            await asyncio.sleep(0)
            for thread in meddlers:
                thread.start()
            results: list[Any] = await asyncio.wait_for(asyncio.gather(*waiting), 60)
            assert results == list(range(threads))
            for thread in meddlers:
                thread.join()

    run_natively(main())


def test_all_tasks_while_tasks_come_and_go(run_natively: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.is_set():
                seen.append(len(asyncio.all_tasks(loop)))

        looking = threading.Thread(target=look)
        looking.start()
        try:
            for _ in range(300):
                await asyncio.gather(*[asyncio.sleep(0) for _ in range(20)])
        finally:
            over.set()
            looking.join()
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert seen

    run_natively(main())


@pytest.mark.thread_unsafe(reason="reads what all threads have logged")
def test_debug_mode_knows_where_tasks_come_from(
    make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> None:
        time_to_pass = asyncio.get_running_loop().time() + 0.02
        while asyncio.get_running_loop().time() < time_to_pass:
            pass

    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.01
        task = asyncio.create_task(slow(), name="slow one")
        assert task._source_traceback is not None  # type: ignore[attr-defined]
        assert "created at" in repr(task)
        await task

    runner_on(make_loop, debug=True)(main())
    assert "Executing <Task finished name='slow one'" in caplog.text


def test_run_and_command(tmp_path: Path, run_program: RunProgram) -> None:
    async def kind() -> type:
        return type(asyncio.current_task())

    assert motet.run(kind(), task_factory=motet.task_factory) is motet.Task
    assert motet.run(kind()) is asyncio.Task
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "async def main():\n"
        "    print(type(asyncio.current_task()), type(asyncio.get_running_loop().create_future()))\n"
        "asyncio.run(main())\n"
    )
    result = run_program(
        "import sys; from motet._cli import main; sys.exit(main(sys.argv[1:]))",
        "run", "--native-tasks", str(program),
    )  # fmt: skip
    assert result.stdout == "<class 'motet.Task'> <class 'motet.Future'>\n", result.stderr


def test_the_interpreter_ends_with_tasks_that_wait(run_program: RunProgram) -> None:
    result = run_program("""
        import asyncio, motet

        async def forever():
            await asyncio.Event().wait()

        async def main():
            global kept
            kept = [asyncio.create_task(forever()) for _ in range(3)]
            await asyncio.sleep(0)

        loop = motet.new_event_loop()
        loop.set_task_factory(motet.task_factory)
        loop.run_until_complete(main())
        print("over")
    """)
    assert (result.returncode, result.stdout) == (0, "over\n"), result.stderr


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with Python 3.14")
def test_call_graph(run_natively: Run) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        inner = asyncio.create_task(wait_for(future, "", []), name="inner")
        outer = asyncio.create_task(asyncio.wait_for(inner, None), name="outer")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph(future)  # type: ignore[attr-defined]
        assert [awaiter.future for awaiter in graph.awaited_by] == [inner]
        assert [awaiter.future for awaiter in graph.awaited_by[0].awaited_by] == [outer]
        future.set_result("value")
        assert await outer == "value"
        assert not asyncio.capture_call_graph(inner).awaited_by  # type: ignore[attr-defined]

    run_natively(main())


@pytest.mark.thread_unsafe(reason="asyncio's command reads the memory of a process whose threads run on")
@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio's command came with Python 3.14")
def test_tasks_are_seen_from_outside(run_natively: Run) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(
            wait_for(asyncio.get_running_loop().create_future(), "", []), name="looked for"
        )
        await asyncio.sleep(0)
        command = [sys.executable, "-m", "asyncio", "ps", str(os.getpid())]
        looked = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
        )
        waiting.cancel()
        if "ermission" in looked.stderr:
            pytest.skip("this system does not let one process look into another")
        assert looked.returncode == 0, looked.stderr
        line = next(line for line in looked.stdout.splitlines() if "looked for" in line)
        assert "wait_for" in line

    run_natively(main())


def test_an_exception_that_refuses_attributes_is_raised_like_any() -> None:
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        text: str

    async def fail() -> None:
        raise FrozenError("on purpose")

    async def main() -> None:
        with pytest.raises(FrozenError, match="on purpose"):
            await asyncio.create_task(fail())

    motet.run(main(), task_factory=motet.task_factory)


def test_tasks_that_wait_for_each_other_in_a_circle_cannot_be_cancelled() -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        async def wait_for(index: int) -> None:
            await tasks[index]

        tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
        await asyncio.sleep(0)
        with pytest.raises(RecursionError):
            tasks[0].cancel()
        # The circle is left by an exception from outside.
        tasks[0].get_coro().close()  # type: ignore[union-attr]
        tasks[1].get_coro().close()  # type: ignore[union-attr]

    loop = motet.new_event_loop()
    loop.set_task_factory(motet.task_factory)
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(main())
    loop.close()


def test_a_long_chain_of_tasks_is_cancelled_from_its_end() -> None:
    async def main() -> None:
        async def wait_for(task: asyncio.Future[None]) -> None:
            await task

        last: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for _ in range(5_000):
            last = asyncio.create_task(wait_for(last))
        await asyncio.sleep(0)
        last.cancel("stop")
        with pytest.raises(asyncio.CancelledError):
            await last

    motet.run(main(), task_factory=motet.task_factory)


def test_a_context_of_another_kind_is_refused_at_the_call() -> None:
    async def main() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(TypeError, match="context must be"):
            motet.Task(coroutine, context=5)  # type: ignore[arg-type]
        coroutine.close()

    motet.run(main(), task_factory=motet.task_factory)
