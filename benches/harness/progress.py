"""Progress on standard error: one line that is overwritten on a terminal, a line per step elsewhere."""

import sys
import time
from types import TracebackType

from harness.plan import Step


class Progress:
    """Counts steps, and from the time that they took says how long the rest will take."""

    def __init__(self, steps: list[Step]) -> None:
        self._count = len(steps)
        self._planned = sum(step.seconds for step in steps)
        self._begun = 0
        self._done = 0.0
        self._start = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._erase = "\r\x1b[K" if self._terminal else ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            print(self._erase, end="", file=sys.stderr, flush=True)

    def begin(self, step: Step) -> None:
        """Announce a step."""
        self._begun += 1
        elapsed = time.monotonic() - self._start
        pace = elapsed / self._done if self._done else 1.0
        left = (self._planned - self._done) * pace
        self._done += step.seconds
        width = len(str(self._count))
        self._print(f"[{self._begun:{width}}/{self._count}] {_minutes(left)} left: {step.name}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        print(self._erase + text, file=sys.stderr, flush=True)

    def _print(self, text: str) -> None:
        if self._terminal:
            print(self._erase + text, end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
