"""What of a mapping is in flight: sent and not yet delivered. Knows neither workers nor event loops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from typing import Any

from .chunk_sizes import ChunkSizer, FixedSize

# How many times as many of brief chunks: results come several at once as long as more chunks wait.
MORE_BRIEF = 3


class Chunk:
    """Consecutive items, the first of which has the number `start`."""

    __slots__ = ("future", "items", "landed", "problem", "start")

    def __init__(self, start: int, items: list[Any]) -> None:
        self.start = start
        self.items = items
        self.future: Any = None
        # Why it could not be sent.
        self.problem: Exception | None = None
        self.landed = False


class Flight:
    """Chunks that were sent, in the order in which they are to be delivered.

    At most `ahead` chunks, or three times as many brief ones, are at or before the workers. `buffer` is how
    many items there may be that were taken from the iterable and not delivered; without it there are no more
    than that many chunks of them.

    For one thread, except `arrivals`: whoever ends a chunk puts it there.
    """

    def __init__(
        self,
        send: Callable[[list[Any]], Any],
        *,
        ordered: bool,
        buffer: int | None,
        ahead: int,
        sizer: ChunkSizer | FixedSize,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.arrivals: SimpleQueue[Chunk] = SimpleQueue()
        self.on_arrival: Callable[[], object] | None = None
        self.flying: dict[int, Chunk] = {}
        self.failures = 0
        self._send_items = send
        self._ordered = ordered
        self._buffer = buffer
        self._ahead = ahead
        self._sizer = sizer
        self._refusals = refusals
        self._taken = 0
        self._held = 0
        self._next = 0
        self._undone = 0
        self._ready: deque[Chunk] = deque()
        # Given back by chunks that took too long: first the earliest.
        self._returned: list[tuple[int, list[Any]]] = []

    # ---- sending ----

    def wants(self) -> int:
        """How many items may be taken from the iterable now, for one chunk."""
        ahead = self._chunks_ahead()
        if self._undone >= ahead or self._returned:
            return 0
        if self._buffer is None:
            return self._sizer.size if len(self.flying) < ahead else 0
        # So that all workers have some of it.
        share = max(1, self._buffer // self._ahead)
        return min(self._sizer.size, share, self._buffer - self._held)

    def _chunks_ahead(self) -> int:
        return self._ahead * MORE_BRIEF if self._sizer.is_brief else self._ahead

    def add(self, items: list[Any]) -> None:
        """Send items that were taken from the iterable."""
        start = self._taken
        self._taken += len(items)
        self._held += len(items)
        self._send(start, items)

    def send_returned(self) -> None:
        """Send again what came back, as far as there is room; in any case what is to be delivered next."""
        while self._returned:
            start, items = self._returned[0]
            is_next = self._ordered and start == self._next
            if self._undone >= self._chunks_ahead() and not is_next:
                return
            heappop(self._returned)
            size = self._sizer.size
            if size < len(items):
                heappush(self._returned, (start + size, items[size:]))
            self._send(start, items[:size])

    def _send(self, start: int, items: list[Any]) -> None:
        chunk = Chunk(start, items)
        try:
            chunk.future = self._send_items(items)
        except self._refusals as error:
            if len(items) > 1:
                for place, item in enumerate(items, start):
                    self._send(place, [item])
                return
            chunk.problem = error
        self.flying[start] = chunk
        self._undone += 1
        if chunk.future is None:
            self._arrive(chunk)
        else:
            chunk.future.add_done_callback(lambda _: self._arrive(chunk))

    def _arrive(self, chunk: Chunk) -> None:
        self.arrivals.put(chunk)
        if self.on_arrival is not None:
            self.on_arrival()

    # ---- delivering ----

    def look(self) -> bool:
        """See what has arrived; whether something can be delivered."""
        try:
            while True:
                self.land(self.arrivals.get_nowait())
        except Empty:
            return self._is_ready()

    def wait(self) -> Chunk:
        """The next chunk to be delivered; blocks until it is there."""
        while not self._is_ready():
            self.land(self.arrivals.get())
        return self.take()

    def land(self, chunk: Chunk) -> None:
        """A chunk has arrived."""
        chunk.landed = True
        self._undone -= 1
        if not self._ordered:
            self._ready.append(chunk)

    def _is_ready(self) -> bool:
        if not self._ordered:
            return bool(self._ready)
        chunk = self.flying.get(self._next)
        return chunk is not None and chunk.landed

    def take(self) -> Chunk:
        """The chunk that is ready."""
        return self.flying.pop(self._next if self._ordered else self._ready.popleft().start)

    def settle(self, chunk: Chunk, done: int, seconds: float | None) -> None:
        """So many items of a chunk were done; the others are to be sent again."""
        self._held -= done
        self._next = chunk.start + done
        if seconds is not None and done:
            self._sizer.record(done, seconds)
        if done < len(chunk.items):
            heappush(self._returned, (chunk.start + done, chunk.items[done:]))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of what was added."""
        return not self.flying and not self._returned
