"""`run_in_executor` and the default executor with motet's worker pools, for which asyncio has no place."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import _motet
from ._base import LoopBase


class _Watched:
    """An executor for one call, whose future it keeps."""

    __slots__ = ("executor", "future")

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.future: Any = None

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.future = self.executor.submit(function, *arguments)
        return self.future


class PoolMethods(LoopBase):
    """Calls of worker pools, for the loop."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Run a call in a pool. When what is returned is cancelled, a call of `motet.Executor` is stopped."""
        if executor is None:
            return super().run_in_executor(None, func, *args)
        watched = _Watched(executor)
        outcome = super().run_in_executor(watched, func, *args)  # type: ignore[arg-type]
        if isinstance(watched.future, _motet.CallFutureCore) and _stops(executor):
            outcome.add_done_callback(partial(_stop, watched.future))
        return outcome

    def set_default_executor(self, executor: Any) -> None:
        """Have calls for no executor run on a `ThreadPoolExecutor`, or on a `motet.Executor` of threads.

        Raises:
            TypeError: It is neither. What the loop itself has it run cannot be sent anywhere.
        """
        found = sys.modules.get("motet._executor.executor")
        if found is not None and isinstance(executor, found.Executor):
            if executor._workers.ships:
                raise TypeError(
                    "executor must be ThreadPoolExecutor instance, or a motet.Executor('threads'): "
                    "what asyncio.to_thread() and the loop itself call cannot be sent to other places"
                )
            self._default_executor = executor
        else:
            super().set_default_executor(executor)


def _stops(executor: Any) -> bool:
    # Not those that stand in for Python's own, which never do.
    return getattr(executor, "_stops_what_is_cancelled", True)


def _stop(call: "_motet.CallFutureCore[Any]", outcome: "asyncio.Future[Any]") -> None:
    if outcome.cancelled():
        call.cancel(kill=True)
