"""Methods of asyncio's classes that are called on motet's tasks and futures by the class's name.

The objects keep their state elsewhere than asyncio's do: what such a method answers may be of no use, but it
must not reach into nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys

import motet
from conftest import RunProgram

EVERYTHING = """
    import asyncio, sys, warnings
    import motet

    warnings.simplefilter("ignore")

    async def nothing():
        pass

    async def fail():
        raise LookupError

    async def wait():
        await asyncio.get_running_loop().create_future()

    def futures(loop):
        yield "uninitialised", motet._motet.Future.__new__(motet._motet.Future)
        yield "pending", loop.create_future()
        for state in "done", "failed", "cancelled":
            future = loop.create_future()
            if state == "done":
                future.set_result(1)
            elif state == "failed":
                future.set_exception(LookupError())
            else:
                future.cancel()
            yield state, future

    async def tasks(loop):
        yield "uninitialised", motet._motet.Task.__new__(motet._motet.Task)
        yield "new", loop.create_task(nothing())
        yield "running", asyncio.current_task()
        for state, main in ("done", nothing), ("failed", fail), ("waiting", wait), ("cancelled", wait):
            task = loop.create_task(main(), name=state)
            await asyncio.sleep(0)
            if state == "cancelled":
                task.cancel()
                await asyncio.sleep(0)
            assert task.done() == (state != "waiting")
            yield state, task
        if sys.version_info >= (3, 12):
            yield "eager", motet.Task(nothing(), loop=loop, eager_start=True)

    def attempt(function, *arguments):
        try:
            function(*arguments)
        except BaseException:
            return
        global succeeded
        succeeded += 1

    def call_all(base, state, object):
        for name in dir(base):
            member = getattr(base, name)
            for arguments in (), (None,), (1,), (LookupError(),), (print,), ("x", 1):
                # The last line tells what has crashed.
                print(base, name, state, arguments, file=sys.stderr, flush=True)
                attempt(member, object, *arguments)
                if hasattr(member, "__set__"):
                    attempt(member.__set__, object, *arguments)
            if hasattr(member, "__get__"):
                attempt(member.__get__, object, type(object))

    async def main():
        loop = asyncio.get_running_loop()
        everything = [(asyncio.Future, *future) for future in futures(loop)]
        async for task in tasks(loop):
            everything += [(asyncio.Future, *task), (asyncio.Task, *task)]
        for base, state, object in everything:
            assert type(object).__module__ == "motet"
            call_all(base, state, object)
        # Also with what asyncio's own `__init__` leaves there.
        for base, state, object in everything:
            if state not in ("running", "uninitialised"):
                attempt(base.__init__, object, *([wait()] if base is asyncio.Task else []))
                call_all(base, state, object)

    succeeded = 0
    loop = motet.new_event_loop()
    loop.set_task_factory(motet.task_factory)
    loop.set_exception_handler(lambda loop, context: None)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    print(succeeded)
"""


def test_no_method_of_asyncios_classes_crashes(run_program: RunProgram) -> None:
    ended = run_program(EVERYTHING)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout.splitlines()[-1]) > 1000


def test_what_a_task_runs_is_seen_by_asyncios_methods() -> None:
    async def nothing() -> None:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        coroutine = nothing()
        task = loop.create_task(coroutine, context=context)
        for _ in range(2):
            assert type(task) is motet.Task
            assert asyncio.Task.get_coro(task) is coroutine
            if sys.version_info >= (3, 12):
                assert asyncio.Task.get_context(task) is context
            await task
        current = asyncio.current_task()
        assert current is not None
        assert asyncio.Task.get_coro(current) is current.get_coro()

        begun: asyncio.Task[None] = motet.Task.__new__(motet.Task)
        assert asyncio.Task.get_coro(begun) is None
        if sys.version_info >= (3, 12):
            assert asyncio.Task.get_context(begun) is None
            eager = motet.Task(nothing(), loop=loop, eager_start=True)
            assert asyncio.Task.get_coro(eager) is eager.get_coro() is None

    loop = motet.new_event_loop()
    loop.set_task_factory(motet.task_factory)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
