"""How many of a mapping's items make one chunk."""

from __future__ import annotations

# Seconds of work that a chunk is to be.
TARGET = 0.001
# A chunk that takes this many times longer gives back what it has not begun.
PATIENCE = 10
# More items at once gain nothing, and only take memory.
LARGEST = 8192
# A chunk grows at most by this factor over one that was measured.
GROWTH = 4
# A chunk is brief that takes this many times its target at most.
BRIEF = 2


class ChunkSizer:
    """How many items the next chunk should have, so that it is about `target` seconds of work.

    Begins with one item and grows only on measured times. What an item costs its sender counts too: a slow
    iterable or large arguments keep chunks small.
    """

    def __init__(self, target: float = TARGET, largest: int = LARGEST) -> None:
        self.size = 1
        # Whether the last chunk was brief.
        self.is_brief = False
        self._target = target
        self._largest = largest
        self._feeding = 0.0

    def feed(self, items: int, seconds: float) -> None:
        """Items took so long to be taken from the iterable and sent."""
        self._feeding = seconds / items

    def record(self, items: int, seconds: float) -> None:
        """Items took a worker so long."""
        cost = max(seconds / items, self._feeding)
        self.is_brief = cost * items <= BRIEF * self._target
        wanted = self._target / cost if cost > 0 else self._largest
        if wanted >= self.size:
            # What is in flight is of smaller sizes: it shall not shrink the chunk, nor let it grow further.
            self.size = max(self.size, int(min(wanted, GROWTH * items, self._largest)))
        elif seconds > PATIENCE * self._target:
            self.size = max(1, int(wanted))
        else:
            # By half at most: a short time says little about what comes.
            self.size = max(1, int(max(wanted, self.size / 2)))


class FixedSize:
    """The size that was asked for, whatever is measured."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.is_brief = False

    def feed(self, items: int, seconds: float) -> None:
        """Nothing follows from it."""

    def record(self, items: int, seconds: float) -> None:
        """Nothing follows from it."""
