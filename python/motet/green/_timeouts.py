"""A limit for a block of code in a green thread."""

from types import TracebackType
from typing import Any, Self

from motet import _motet

__all__ = ["Timeout"]


class Timeout(BaseException):
    """Raised in the green thread that waits in `with Timeout(seconds):` when the time is over.

    Not an `Exception`, so that a block that handles errors does not take it for one. It is raised where the
    green thread waits, and stays with this object: of several that lie in each other each handler knows its
    own.

    Args:
        seconds: the time; None for no limit.
        error: raised instead of this object; False to just leave the block.
    """

    def __init__(
        self, seconds: float | None = None, error: BaseException | type[BaseException] | bool | None = None
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.error = error
        self._timer: Any = None

    def start(self) -> None:
        """The time begins."""
        if self._timer is not None:
            raise RuntimeError("this timeout has begun already")
        thread = _motet._running_body()
        if thread is None:
            raise RuntimeError("green.Timeout is for green threads; use asyncio.timeout() in a task")
        if self.seconds is not None:
            error = self if self.error is None or isinstance(self.error, bool) else self.error
            error = error() if isinstance(error, type) else error
            self._timer = thread._loop.call_later(self.seconds, thread.throw, error)

    def cancel(self) -> None:
        """The time will not be over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.cancel()
        return value is self and self.error is False

    def __str__(self) -> str:
        return "" if self.seconds is None else f"{self.seconds:g} seconds"
