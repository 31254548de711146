"""What a call may have of its own, and what has happened to it."""

from __future__ import annotations

import math
from typing import NamedTuple


class CallStopped(BaseException):
    """Raised in a call that is to end: its time is up, or it was cancelled. Not for programs to catch."""


class Options(NamedTuple):
    """`timeout` in seconds, for each attempt; `retries`: attempts beyond the first; `name`: for messages."""

    timeout: float | None = None
    retries: int = 0
    name: str | None = None

    def checked(self) -> Options:
        """These options.

        Raises:
            TypeError, ValueError: one of them makes no sense.
        """
        timeout, retries, name = self
        if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
            problem = f"timeout is to be a number of seconds greater than 0, or None, not {timeout!r}"
            raise (ValueError if isinstance(timeout, (int, float)) else TypeError)(problem)
        if not isinstance(retries, int):
            raise TypeError(f"retries is to be a whole number, not {retries!r}")
        if retries < 0:
            raise ValueError(f"retries is to be 0 or more, not {retries!r}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name is to be a string, not {name!r}")
        return self

    def is_plain(self) -> bool:
        """Whether there is nothing to keep."""
        return self.timeout is None and not self.retries and self.name is None


class Call:
    """A call with options."""

    __slots__ = ("attempts", "deaths", "function", "options")

    def __init__(self, options: Options, function: object) -> None:
        self.options = options
        self.function = function
        # Attempts that have failed, of whatever; and those that took their worker with them.
        self.attempts = 0
        self.deaths = 0

    def may_try_again(self) -> bool:
        """Count a failed attempt; whether there is to be another."""
        self.attempts += 1
        return self.attempts <= self.options.retries

    def __str__(self) -> str:
        function = getattr(self.function, "__qualname__", None) or repr(self.function)
        return f"{self.options.name} ({function})" if self.options.name else function
