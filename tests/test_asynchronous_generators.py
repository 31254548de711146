"""Asynchronous generators: closed when dropped, and at the latest by `shutdown_asyncgens`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import closing

import pytest
from conftest import MakeLoop


async def count(ended: list[str]) -> AsyncGenerator[int, None]:
    try:
        for number in range(1000):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        ended.append("ended")


def test_a_dropped_generator_is_closed_by_the_loop(make_loop: MakeLoop) -> None:
    ended: list[str] = []

    async def main() -> None:
        generator = count(ended)
        assert await anext(generator) == 0
        del generator
        gc.collect()
        await asyncio.sleep(0.01)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        assert ended == ["ended"]


def test_shutdown_closes_what_is_left(make_loop: MakeLoop) -> None:
    ended: list[str] = []

    async def main() -> AsyncGenerator[int, None]:
        generator = count(ended)
        await anext(generator)
        return generator

    with closing(make_loop()) as loop:
        generator = loop.run_until_complete(main())
        assert ended == []
        loop.run_until_complete(loop.shutdown_asyncgens())
        assert ended == ["ended"]
        del generator


def test_a_generator_that_begins_after_shutdown_warns(make_loop: MakeLoop) -> None:
    async def main() -> None:
        generator = count([])
        await anext(generator)
        await generator.aclose()

    with closing(make_loop()) as loop:
        loop.run_until_complete(loop.shutdown_asyncgens())
        with pytest.warns(ResourceWarning, match="asynchronous generator .* was scheduled after"):
            loop.run_until_complete(main())


def test_a_failure_while_closing_is_reported(make_loop: MakeLoop) -> None:
    async def failing() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise LookupError("on purpose")

    async def main() -> AsyncGenerator[int, None]:
        generator = failing()
        await anext(generator)
        return generator

    with closing(make_loop()) as loop:
        reports: list[object] = []
        loop.set_exception_handler(lambda _, details: reports.append(details["exception"]))
        generator = loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        del generator
    assert [type(report) for report in reports] == [LookupError]
