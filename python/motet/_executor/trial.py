"""The first calls of an executor that is to choose a place: sent to worker processes and measured there.

Processes suit any work. Threads cost less where they do not stand in each other's way: where calls mostly
wait, or work without the GIL.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .measuring import Costs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture
    from .processes import ProcessWorkers

# So many calls are enough, however short.
CALLS = 8
# Fewer are if they took so many nanoseconds together, but one or two calls may be odd.
FEWEST = 3
ENOUGH = 50_000_000
# Looks at the GIL with which to say for how long it was held; with fewer, calls are taken to hold it whenever
# they are on the processor.
LOOKS = 5
# Threads are chosen if a call holds the GIL at most for this share of its time, ...
ONE = 0.2
# ... and all workers at once do for at most this share: what is left is the program's own.
ALL = 0.8


class Verdict(NamedTuple):
    """Where calls are to run, and why."""

    place: Literal["processes", "threads"]
    sentence: str


class Trial:
    """Measures calls until it knows enough. Thread-safe; signal handlers may come in between."""

    def __init__(self, workers: int) -> None:
        """`workers` is how many calls there will be at once."""
        self.verdict: Verdict | None = None
        self._workers = workers
        self._costs: list[Costs] = []
        self._flying = 0
        self._names: set[str] = set()
        self._lock = threading.RLock()

    @property
    def missing(self) -> int:
        """How many calls more are to be measured, at most."""
        return CALLS - len(self._costs)

    @property
    def has_begun(self) -> bool:
        """Whether there was a call."""
        return bool(self._names)

    def submit(
        self,
        workers: ProcessWorkers,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Call | None,
    ) -> CallFuture[Any]:
        """Queue a call; it is measured if it is one of the first.

        Raises what `ProcessWorkers.submit` does.
        """
        with self._lock:
            wanted = self.verdict is None and self._flying < self.missing
            if wanted:
                self._flying += 1
                self._names.add(name_of(function))
        if not wanted:
            return workers.submit(function, arguments, keywords, call)
        try:
            future = workers.submit(function, arguments, keywords, call, self._record)
        except BaseException:
            self._landed(None)
            raise
        # What it has cost was told before. Nothing was by one that was cancelled or lost its worker, nor by a
        # worker's first one.
        future.add_done_callback(self._landed)
        return future

    def decide(self, verdict: Verdict) -> Verdict:
        """Settle it for another reason than what was measured; the verdict that holds."""
        with self._lock:
            if self.verdict is None:
                self.verdict = verdict
            return self.verdict

    def _landed(self, _: object) -> None:
        with self._lock:
            self._flying -= 1

    def _record(self, data: bytes) -> None:
        with self._lock:
            if self.verdict is None:
                self._costs.append(Costs.load(data))
                count, wall = len(self._costs), sum(costs.wall for costs in self._costs)
                if count >= CALLS or (count >= FEWEST and wall >= ENOUGH):
                    self.verdict = judge(self._costs, self._workers, sorted(self._names))


def judge(costs: list[Costs], workers: int, names: list[str]) -> Verdict:
    """What follows from what calls of these names have cost."""
    wall = max(1, sum(cost.wall for cost in costs))
    on_processor = sum(cost.cpu for cost in costs) / wall
    seen = sum(cost.looks for cost in costs) >= LOOKS
    held = on_processor
    if seen:
        held = sum(cost.held for cost in costs) / max(1, sum(cost.watched for cost in costs))
    of = f" of {names[0]}()" if len(names) == 1 else ""
    mean = _duration(wall / len(costs) / 1e9)
    story = f"{len(costs)} calls{of} took {mean} each, were on the processor for {on_processor:.0%} of it "
    story += f"and held the GIL for {held:.0%}" if seen else "and were too short to see how long with the GIL"
    place: Literal["processes", "threads"] = "processes"
    if held <= min(ONE, ALL / workers):
        place = "threads"
    elif held <= ONE:
        story += f", too much for {workers} threads at once"
    return Verdict(place, f"{place}, because {story}")


def name_of(function: object) -> str:
    """A function's own name, for a sentence."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
