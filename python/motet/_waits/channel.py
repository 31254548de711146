"""Channels: items from hand to hand."""

from collections.abc import AsyncIterator, Iterator
from typing import Generic, Literal, Self, TypeVar

from motet._motet import ChannelCore

from .errors import Closed

__all__ = ["Channel"]

T = TypeVar("T")


class Channel(ChannelCore[T], Generic[T]):
    """A queue with two ends, each of which any number of threads and tasks may hold.

    `put` and `get` block the calling thread, `aput` and `aget` are awaited in tasks of asyncio or trio; all
    work on the same channel at the same time, from any thread. Whoever came first goes first. A wait that is
    cancelled or times out has put or got nothing.

    Once it is closed, puts raise `Closed`, and so do gets when nothing is left. If it was closed with an
    error, that is the `__cause__`. Iteration ends when the channel is closed, and raises if that was with an
    error.

    >>> channel = Channel[str](2)
    >>> channel.put("several")
    >>> channel.put("voices")
    >>> channel.close()
    True
    >>> list(channel)
    ['several', 'voices']

    Args:
        capacity: how many items it keeps; with 0 a put waits until somebody gets, with None there is no
        limit. overflow: what a put does that finds no room: "wait", "drop_newest" (its own item),
        "drop_oldest", or
            "error" (raise `Full`).
    """

    __slots__ = ()

    def __new__(
        cls,
        capacity: int | None = 0,
        *,
        overflow: Literal["wait", "drop_newest", "drop_oldest", "error"] = "wait",
    ) -> Self:
        return super().__new__(cls, capacity, overflow)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.get()
            except Closed as closed:
                if closed.__cause__ is not None:
                    raise
                return
            yield item

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                item = await self.aget()
            except Closed as closed:
                if closed.__cause__ is not None:
                    raise
                return
            yield item

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<motet.Channel capacity={self.capacity} length={len(self)} {state}>"
