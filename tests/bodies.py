"""Bodies of every kind that run one and the same script.

A script is a generator: it yields operations, each of which its body does in its own way, and is sent what
they give, or thrown what they raise.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NamedTuple

import motet
import trio
from motet import green

# Nothing here takes that many seconds, unless something is wrong.
LIMIT = 60.0


class Do(NamedTuple):
    """An operation by both its names."""

    plain: Callable[..., Any]
    awaited: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


Script = Generator[Do, Any, Any]


def put(channel: motet.Channel[Any], item: object, timeout: float | None = None) -> Do:
    return Do(channel.put, channel.aput, (item, timeout))


def get(channel: motet.Channel[Any], timeout: float | None = None) -> Do:
    return Do(channel.get, channel.aget, (timeout,))


def acquire(lock: motet.Lock) -> Do:
    return Do(lock.acquire, lock.aacquire)


def wait(event: motet.Event, timeout: float | None = None) -> Do:
    return Do(event.wait, event.await_, (timeout,))


def sleep(seconds: float) -> Do:
    return Do(motet.sleep, motet.asleep, (seconds,))


def run_plain(script: Script) -> Any:
    """In this thread."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            do = script.send(answer) if error is None else script.throw(error)
        except StopIteration as stop:
            return stop.value
        answer, error = None, None
        try:
            answer = do.plain(*do.arguments)
        except BaseException as raised:
            error = raised


async def run_awaited(script: Script) -> Any:
    """In this task."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            do = script.send(answer) if error is None else script.throw(error)
        except StopIteration as stop:
            return stop.value
        answer, error = None, None
        try:
            answer = await do.awaited(*do.arguments)
        except BaseException as raised:
            error = raised


class Body:
    """A script that runs in a thread of its own, in that thread's way."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.result: Future[Any] = Future()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Body:
        self.thread.start()
        return self

    def join(self) -> Any:
        """What the script has returned."""
        try:
            return self.result.result(LIMIT)
        finally:
            self.thread.join(LIMIT)

    def _run(self) -> None:
        try:
            result = self.run()
            # What a green thread gives that was ended.
            self.result.set_result("cancelled" if isinstance(result, green.GreenletExit) else result)
        except BaseException as error:
            self.result.set_exception(error)

    def run(self) -> Any:
        return run_plain(self.script)


class ThreadBody(Body):
    """A thread."""


class AsyncioBody(Body):
    """A task of asyncio."""

    make_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def run(self) -> Any:
        self.begun = threading.Event()
        with asyncio.Runner(loop_factory=self.make_loop) as runner:
            return runner.run(self._main())

    async def _main(self) -> Any:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.ensure_future(run_awaited(self.script))
        try:
            return await self.task
        except asyncio.CancelledError:
            return "cancelled"

    def cancel(self) -> None:
        self.loop.call_soon_threadsafe(self.task.cancel)


class MotetBody(AsyncioBody):
    """A task of asyncio on a loop of motet's."""

    make_loop = staticmethod(motet.new_event_loop)


class NativeBody(MotetBody):
    """A task of motet's own."""

    async def _main(self) -> Any:
        asyncio.get_running_loop().set_task_factory(motet.task_factory)
        return await super()._main()


class TrioBody(Body):
    """A task of trio."""

    def run(self) -> Any:
        return trio.run(self._main)

    async def _main(self) -> Any:
        self.token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self.scope:
            return await run_awaited(self.script)
        return "cancelled"

    def cancel(self) -> None:
        self.token.run_sync_soon(self.scope.cancel)


class GreenBody(Body):
    """A green thread, of a thread that has no other loop."""

    def run(self) -> Any:
        return green.run(self._main)

    def _main(self) -> Any:
        self.green_thread = green.getcurrent()
        return run_plain(self.script)

    def cancel(self) -> None:
        assert self.green_thread is not None
        self.green_thread.throw(green.GreenletExit())


class GreenBesideTasksBody(GreenBody):
    """A green thread on the loop of asyncio's tasks."""

    def run(self) -> Any:
        async def main() -> Any:
            return await green.spawn(self._main)

        return motet.run(main())


KINDS: list[type[Any]] = [
    ThreadBody,
    AsyncioBody,
    MotetBody,
    NativeBody,
    TrioBody,
    GreenBody,
    GreenBesideTasksBody,
]
CANCELLABLE: list[type[Any]] = [AsyncioBody, MotetBody, NativeBody, TrioBody, GreenBody, GreenBesideTasksBody]
