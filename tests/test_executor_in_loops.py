"""Worker processes behind `loop.run_in_executor`, and awaited."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop

PATIENCE = 60.0


def test_calls_of_a_loop_run_on_workers(make_loop: MakeLoop) -> None:
    async def main(executor: motet.Executor) -> list[int]:
        loop = asyncio.get_running_loop()
        pid = await loop.run_in_executor(executor, os.getpid)
        assert pid != os.getpid()
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        return await asyncio.gather(*(loop.run_in_executor(executor, abs, -number) for number in range(50)))

    with closing(make_loop()) as loop, motet.Executor("processes", 2) as executor:
        assert loop.run_until_complete(main(executor)) == list(range(50))


@pytest.mark.parametrize("way", ["run_in_executor", "await"])
def test_cancelling_the_task_stops_the_call(way: str) -> None:
    async def wait_for_it(executor: motet.Executor) -> None:
        if way == "await":
            await executor.submit(time.sleep, 600)
        else:
            await asyncio.get_running_loop().run_in_executor(executor, time.sleep, 600)

    async def main(executor: motet.Executor) -> None:
        task = asyncio.create_task(wait_for_it(executor))
        lanes = executor._workers.workers
        while not any(executor._workers.pool.call_of(lane) for lane in list(lanes)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The only worker is free for this one.
        assert await asyncio.wait_for(executor.submit(abs, -3), PATIENCE) == 3

    with motet.Executor("processes", 1) as executor:
        motet.run(main(executor))


def test_an_executor_of_threads_is_a_default_executor() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = motet.Executor("threads", 1)
        loop.set_default_executor(executor)  # type: ignore[arg-type]
        thread = await asyncio.to_thread(threading.get_ident)
        assert thread == await loop.run_in_executor(None, threading.get_ident)
        assert thread == await asyncio.wrap_future(executor.submit(threading.get_ident))
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            executor.submit(int)

    motet.run(main())


@pytest.mark.parametrize("on", ["processes", "auto"])
def test_other_executors_are_no_default_executors(make_loop: MakeLoop, on: Any) -> None:
    with (
        closing(make_loop()) as loop,
        motet.Executor(on, 1) as executor,
        pytest.raises(TypeError, match="executor must be ThreadPoolExecutor"),
    ):
        loop.set_default_executor(executor)  # type: ignore[arg-type]
