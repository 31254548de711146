"""What calls of asynchronous functions run on: tasks of an event loop."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .culprits import name_of
from .errors import CallTimeout


class Caller:
    """Awaits a function's calls, so many at once. `timeout` in seconds for each attempt."""

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        limit: int,
        timeout: float | None,
        retries: int,
        name: str | None = None,
    ) -> None:
        self._function = function
        self._room = asyncio.Semaphore(limit)
        self._timeout = timeout
        self._retries = retries
        self._name = name or name_of(function)

    async def call(self, arguments: tuple[Any, ...]) -> Any:
        """The function's result, at the last attempt."""
        async with self._room:
            for _ in range(self._retries):
                try:
                    return await self._attempt(arguments)
                except Exception:
                    continue
            return await self._attempt(arguments)

    async def _attempt(self, arguments: tuple[Any, ...]) -> Any:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await self._function(*arguments)
        except TimeoutError as error:
            if not limit.expired():
                raise
            problem = f"{self._name} ran longer than {self._timeout:g} seconds and was stopped"
            raise CallTimeout(problem) from error


class LoopThread:
    """An event loop of its own in a thread of its own. `prepare` is called there before all else."""

    def __init__(self, name: str, prepare: Callable[[], object] | None = None) -> None:
        self._prepare = prepare
        self._begun: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self.loop = self._begun.result()
        _open.add(self)

    def is_current(self) -> bool:
        """Whether this is that thread."""
        return self._thread is threading.current_thread()

    def close(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        if self in _open:
            _open.discard(self)
            assert self._end is not None
            self.loop.call_soon_threadsafe(self._end.set)
        if not self.is_current():
            self._thread.join()

    def _run(self) -> None:
        from .._loop import new_event_loop

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                if self._begun.done():
                    raise
                self._begun.set_exception(error)

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        if self._prepare is not None:
            self._prepare()
        self._begun.set_result(asyncio.get_running_loop())
        await self._end.wait()


_open: set[LoopThread] = set()


def _end_all() -> None:
    """At the interpreter's exit: later, nobody can wait for a thread."""
    for thread in list(_open):
        thread.close()


atexit.register(_end_all)
# A child has none of the threads.
os.register_at_fork(after_in_child=_open.clear)
