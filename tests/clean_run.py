"""Runs a coroutine on a new loop; nothing of it may be left: descriptors, tasks, complaints, warnings."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import motet

_Result = TypeVar("_Result")

# Against hanging only.
LIMIT = 120


def open_descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what each is."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        # The descriptor that lists them is gone again.
        with suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


async def _until(condition: Callable[[], bool]) -> None:
    """Waits a while for what follows from what has happened, such as the end of a connection at its peer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110, nothing tells of it
                await asyncio.sleep(0.005)


def run_clean(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    program: Callable[[], Coroutine[Any, Any, _Result]],
    limit: float = LIMIT,
) -> _Result:
    """The result of `program()`, which must have ended all that it began within `limit` seconds."""
    reports: list[dict[str, Any]] = []
    gc.collect()
    # The watchdog's pipe is made once for the process.
    motet.run(asyncio.sleep(0))
    before = open_descriptors()

    async def main() -> tuple[_Result, set[asyncio.Task[Any]]]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, details: reports.append(details))
        inside = open_descriptors()
        async with asyncio.timeout(limit):
            result = await program()
        await _until(lambda: open_descriptors().keys() <= inside.keys() and len(asyncio.all_tasks()) == 1)
        return result, asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    with warnings.catch_warnings(record=True) as caught:
        # Those of the libraries about themselves are not the loop's.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ResourceWarning)
        warnings.simplefilter("always", RuntimeWarning)
        with asyncio.Runner(loop_factory=make_loop) as runner:
            result, tasks = runner.run(main())
        assert not tasks
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert reports == []
    assert {number: what for number, what in open_descriptors().items() if number not in before} == {}
    return result
