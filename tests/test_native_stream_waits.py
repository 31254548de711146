"""What a native stream's methods return to be awaited: a coroutine, and the future that a task waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import motet
import pytest
from stream_helpers import run


class Refusing:
    def __eq__(self, other: object) -> bool:
        raise LookupError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class Counting:
    """Equal to whatever it is compared with; what it does meanwhile is done behind the wait's back."""

    def __init__(self, wait: Any) -> None:
        self.wait = wait
        self.compared = 0

    def __call__(self, _: object) -> None:
        self.compared += 100

    def __eq__(self, other: object) -> bool:
        self.compared += 1
        self.wait.add_done_callback(self)
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_callback_that_cannot_be_compared_loses_nobody_else() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        wait = reader.readline()
        assert wait.send(None) is wait
        called: list[object] = []
        wait.add_done_callback(called.append)
        with pytest.raises(LookupError, match="not to be compared"):
            wait.remove_done_callback(Refusing())
        reader.feed_data(b"line\n")
        await asyncio.sleep(0)
        assert called == [wait]
        wait.close()

    run(main())


def test_callbacks_are_removed_by_equality() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        wait = reader.readline()
        assert wait.send(None) is wait
        called: list[object] = []
        for _ in range(2):
            wait.add_done_callback(called.append)
        assert wait.remove_done_callback(print) == 0
        assert wait.remove_done_callback(called.append) == 2
        # What is added while it compares stays.
        wait.add_done_callback(called.append)
        counting = Counting(wait)
        assert wait.remove_done_callback(counting) == 1
        assert counting.compared == 1
        reader.feed_data(b"line\n")
        await asyncio.sleep(0)
        assert counting.compared == 101
        assert not called
        with pytest.raises(StopIteration):
            wait.send(None)

    run(main())
