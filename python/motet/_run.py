"""`motet.run`: `asyncio.run` on motet's loop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import _streams
from ._loop import new_event_loop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Runs a coroutine on a new motet loop, cancels what it left behind, closes the loop, returns the result.

    As `asyncio.run`, from the main thread: Ctrl-C cancels `main` and then raises `KeyboardInterrupt`. To run
    several coroutines on one loop, use `asyncio.Runner(loop_factory=motet.new_event_loop)`.

    Meanwhile `asyncio.open_connection`, `asyncio.start_server` and their Unix kin give native streams
    to programs on motet's loop.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("motet.run() cannot be called from a running event loop; use 'await' there")
    with _streams.installed(), asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
