"""`motet.run`: `asyncio.run` on motet's loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from . import _stream_functions
from ._tasks import loops_with

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    task_factory: Callable[..., Any] | None = None,
) -> T:
    """Runs a coroutine on a new motet loop, cancels what it left behind, closes the loop, returns the result.

    As `asyncio.run`, from the main thread: Ctrl-C cancels `main` and then raises `KeyboardInterrupt`. With
    `task_factory=motet.task_factory` tasks and futures are motet's own, `main` included. To run
    several coroutines on one loop, use `asyncio.Runner(loop_factory=motet.new_event_loop)`.

    Meanwhile `asyncio.open_connection`, `asyncio.start_server` and their Unix kin give native streams
    to programs on motet's loop.
    """
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError("motet.run() cannot be called from a running event loop; use 'await' there")
    loop_factory = loops_with(task_factory)
    with _stream_functions.installed(), asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
