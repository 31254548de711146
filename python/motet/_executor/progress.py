"""How far a mapping is: a bar on a terminal or in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from operator import length_hint
from typing import Any, Protocol, TextIO

from .notebooks import is_kernel

# Seconds between lines where there is no bar.
INTERVAL = 10.0


class Progress(Protocol):
    """Tells somebody how far it is."""

    def advance(self, items: int, failures: int) -> None:
        """So many more items are done; so many have failed up to now."""

    def close(self) -> None:
        """No more will come."""


class Silence:
    """Tells nobody."""

    def advance(self, items: int, failures: int) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Say nothing."""


class Bar:
    """A bar of tqdm's."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._failures = 0

    def advance(self, items: int, failures: int) -> None:
        """Draw it, if that was not just done."""
        if failures != self._failures:
            self._failures = failures
            self._bar.set_postfix_str(f"{failures} failed", refresh=False)
        self._bar.update(items)

    def close(self) -> None:
        """Leave it as it is."""
        self._bar.close()


class Lines:
    """A line from time to time, and one at the end: for files and pipes."""

    def __init__(
        self,
        total: int | None,
        name: str,
        file: TextIO,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._name = name
        self._file = file
        self._interval = interval
        self._clock = clock
        self._begin = self._last = clock()
        self._items = 0
        self._failures = 0

    def advance(self, items: int, failures: int) -> None:
        """Write a line, if the last one is old."""
        self._items += items
        self._failures = failures
        now = self._clock()
        if now - self._last >= self._interval:
            self._last = now
            self._write(now)

    def close(self) -> None:
        """Write the last line."""
        self._write(self._clock())

    def _write(self, now: float) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped]

        form = "{desc}: {n_fmt}/{total_fmt} ({percentage:.0f}%) [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
        if self._total is None:
            form = "{desc}: {n_fmt} [{elapsed}, {rate_fmt}{postfix}]"
        line = tqdm.format_meter(
            self._items,
            self._total,
            now - self._begin,
            prefix=self._name,
            bar_format=form,
            postfix=f"{self._failures} failed" if self._failures else None,
        )
        self._file.write(line + "\n")
        self._file.flush()


def show(total: int | None, name: str) -> Progress:
    """The kind that suits `sys.stderr` and where the program runs."""
    file = sys.stderr
    if file is None:
        return Silence()
    if is_kernel():
        from tqdm import auto as kinds
    elif file.isatty():
        from tqdm import std as kinds
    else:
        return Lines(total, name, file)
    # A kind of its own: its lock need not be shared with other processes, and no thread looks after it.
    own: Any = type("Bar", (kinds.tqdm,), {"monitor_interval": 0})
    own.set_lock(threading.RLock())
    return Bar(own(total=total, desc=name, file=file, dynamic_ncols=True))


def total_of(iterables: Iterable[object]) -> int | None:
    """How many items there will be, if all the iterables know."""
    sizes = [length_hint(iterable, -1) for iterable in iterables]
    return None if min(sizes) < 0 else min(sizes)
