"""Loops with a task factory from the start, so that the first task is of its kind as well."""

from collections.abc import Callable
from typing import Any

from ._loop import EventLoop, new_event_loop


def loops_with(task_factory: Callable[..., Any] | None) -> Callable[[], EventLoop]:
    """What makes loops with this task factory; None for asyncio's own tasks."""

    def new_event_loop_with_factory() -> EventLoop:
        loop = new_event_loop()
        loop.set_task_factory(task_factory)
        return loop

    return new_event_loop if task_factory is None else new_event_loop_with_factory
