"""The event loop under test, and how asyncio is made to hand it out.

Up to Python 3.15 every default loop (`asyncio.new_event_loop`, `asyncio.run`, `Runner`, `get_event_loop`,
`IsolatedAsyncioTestCase`) comes from the default policy's `_loop_factory`. Replacing it there, and not the
functions above it, leaves tests that install a policy of their own with the loop of that policy.
"""

import asyncio
import importlib
import importlib.util
from asyncio import events, unix_events
from collections.abc import Callable
from typing import Any

LOOPS = ("motet", "asyncio", "uvloop")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class CountingFactory:
    """Makes loops and counts them: a test that made none says nothing about the loop."""

    def __init__(self, factory: LoopFactory) -> None:
        self._factory = factory
        self.created = 0

    def __call__(self) -> asyncio.AbstractEventLoop:
        self.count()
        return self._factory()

    def count(self) -> None:
        """Count a loop, or an executor where these are under test."""
        self.created += 1


def factory_of(name: str) -> LoopFactory:
    """The function that makes a new loop of the named kind."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    factory: LoopFactory = importlib.import_module(name).new_event_loop
    return factory


def is_installed(name: str) -> bool:
    """Whether the named loop's package can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def install(factory: CountingFactory) -> None:
    """Make asyncio hand out loops of `factory` wherever a program does not name another one."""
    asyncio_module: Any = asyncio
    events_module: Any = events
    unix_module: Any = unix_events
    policy: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
    if policy is not None:
        policy._loop_factory = factory
    else:
        asyncio_module.new_event_loop = events_module.new_event_loop = factory
    if hasattr(asyncio, "EventLoop"):
        asyncio_module.EventLoop = unix_module.EventLoop = factory
