"""What `motet run` changes in asyncio and in motet's loop, each right after its import.

Nothing here may import `motet._loop` but the loops' making: its import may be what has begun asyncio's.
"""

import asyncio
import sys
from asyncio import events
from functools import wraps
from typing import Any, Protocol

from . import _exit


def loops(native_tasks: bool) -> None:
    """Have motet make every loop that the program asks asyncio for without naming a kind.

    Where Python has policies the default one is the only place to change: `asyncio.new_event_loop` asks the
    policy in force, so that a policy set by the program keeps its own loop.
    """

    def new_event_loop() -> asyncio.AbstractEventLoop:
        factory = _exit.load("motet._asyncio_classes").task_factory if native_tasks else None
        made: asyncio.AbstractEventLoop = _exit.load("motet._tasks").loops_with(factory)()
        return made

    policy = _default_policy()
    if policy is not None:
        policy._loop_factory = staticmethod(new_event_loop)
        return
    for module in (asyncio, events):
        module.__dict__["new_event_loop"] = new_event_loop


def _default_policy() -> Any:
    # By the name in the platform's module: the public one warns from Python 3.14 on.
    platform = sys.modules.get("asyncio.unix_events") or sys.modules.get("asyncio.windows_events")
    return getattr(platform, "_DefaultEventLoopPolicy", None) or getattr(
        platform, "DefaultEventLoopPolicy", None
    )


def threshold(loop_class: Any, seconds: float) -> None:
    """Give every new loop of `loop_class` this threshold, also those that asyncio was not asked for."""
    initialize = loop_class.__init__

    @wraps(initialize)
    def initialize_with_threshold(loop: Any, *arguments: Any, **named: Any) -> None:
        initialize(loop, *arguments, **named)
        loop.blocked_threshold = seconds

    loop_class.__init__ = initialize_with_threshold


class Observer(Protocol):
    """Who wants to hear of the program's loops, on whatever thread they are."""

    def created(self, loop: Any) -> None:
        """A loop of motet's was made."""

    def closed(self, loop: Any) -> None:
        """A loop of motet's was closed, perhaps not for the first time."""

    def other(self, loop: Any) -> None:
        """A loop of another kind begins to run, perhaps not for the first time."""


def observe(loop_class: Any, observer: Observer) -> None:
    """Tell `observer` of every loop of `loop_class`."""
    initialize, close = loop_class.__init__, loop_class.close

    @wraps(initialize)
    def observed_initialize(loop: Any, *arguments: Any, **named: Any) -> None:
        initialize(loop, *arguments, **named)
        observer.created(loop)

    @wraps(close)
    def observed_close(loop: Any) -> None:
        close(loop)
        observer.closed(loop)

    loop_class.__init__ = observed_initialize
    loop_class.close = observed_close


def observe_others(observer: Observer) -> None:
    """Tell `observer` of the loops that announce themselves to asyncio."""
    announce = events._set_running_loop

    @wraps(announce)
    def observed_announce(loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None and not _is_own(loop):
            observer.other(loop)
        announce(loop)

    for module in (asyncio, events):
        module.__dict__["_set_running_loop"] = observed_announce


def _is_own(loop: asyncio.AbstractEventLoop) -> bool:
    # Where motet's loop was not imported, there is none.
    module = sys.modules.get("motet._loop")
    return module is not None and isinstance(loop, module.EventLoop)
