"""The running count of a crawl: what progress shows while it runs and the summary prints at its end."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What has been done so far. Times are in seconds, by stage: crawl, parse, index."""

    files: int = 0
    fetched: int = 0
    finished: int = 0
    bytes: int = 0
    definitions: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    started: float = 0.0
    ended_after: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start the clock from which stages are timed."""
        self.started = time.perf_counter()

    def count_fetched(self, size: int) -> None:
        """One more file has arrived."""
        self.fetched += 1
        self.bytes += size
        self.end("crawl")

    def count_finished(self, path: str, error: str | None) -> None:
        """One more file is done with, well or not."""
        self.finished += 1
        if error is not None:
            self.problems.append((path, error))

    def end(self, stage: str) -> None:
        """Note that `stage` has ended, or has at least come this far."""
        self.ended_after[stage] = time.perf_counter() - self.started
