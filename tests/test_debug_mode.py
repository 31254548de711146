"""Debug mode: slow callbacks, wrong threads, origins of handles, coroutines that nobody awaited."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeLoop


@pytest.fixture
def loop(make_loop: MakeLoop) -> Iterator[asyncio.AbstractEventLoop]:
    with closing(make_loop()) as loop:
        loop.set_debug(True)
        yield loop


def be_slow() -> None:
    time.sleep(0.02)


async def be_a_slow_task() -> None:
    be_slow()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_slow_callbacks_are_logged(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(be_slow)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(be_a_slow_task())
    callback, task = warnings_of(caplog)
    assert callback.startswith("Executing <Handle be_slow() at ")
    assert "test_debug_mode.py" in callback
    assert "be_a_slow_task()" in task
    assert all(" took 0.0" in text and text.endswith(" seconds") for text in (callback, task))


def test_quick_callbacks_are_not_logged(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(be_slow)
        loop.run_until_complete(asyncio.sleep(0))
    assert warnings_of(caplog) == []


def test_a_slow_callback_that_fails_is_logged_and_reported(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_slowly() -> None:
        be_slow()
        raise LookupError("on purpose")

    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, details: reports.append(details))
    loop.slow_callback_duration = 0.01
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(fail_slowly)
        loop.run_until_complete(asyncio.sleep(0))
    assert len(warnings_of(caplog)) == len(reports) == 1
    frames = reports[0]["source_traceback"]
    assert frames[-1].name == "test_a_slow_callback_that_fails_is_logged_and_reported"


def test_wrong_threads_are_refused(loop: asyncio.AbstractEventLoop) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
    ]

    async def main() -> list[str]:
        texts = []
        for call in calls:
            with pytest.raises(RuntimeError) as raised:
                await asyncio.to_thread(call)
            texts.append(str(raised.value))
        handle = await asyncio.to_thread(loop.call_soon_threadsafe, texts.append, "sent")
        await asyncio.sleep(0.01)
        assert not handle.cancelled()
        return texts

    texts = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    refused = "Non-thread-safe operation invoked on an event loop other than the current one"
    assert texts == [refused] * 3 + ["sent"]


def test_what_cannot_be_called_is_refused(loop: asyncio.AbstractEventLoop) -> None:
    async def coroutine_function() -> None:
        """Never awaited."""

    coroutine = coroutine_function()
    wrong: list[Any] = [coroutine, coroutine_function]
    for callback in wrong:
        for method, arguments in (("call_soon", []), ("call_at", [1]), ("call_soon_threadsafe", [])):
            with pytest.raises(TypeError, match=rf"coroutines cannot be used with {method}\(\)"):
                getattr(loop, method)(*arguments, callback)
    with pytest.raises(TypeError, match=r"a callable object was expected by call_soon\(\), got 3"):
        loop.call_soon(3)  # type: ignore[arg-type]
    coroutine.close()


def test_handles_tell_where_they_were_made(loop: asyncio.AbstractEventLoop) -> None:
    for handle in (loop.call_soon(print), loop.call_later(1, print), loop.call_soon_threadsafe(print)):
        text = repr(handle)
        assert "created at " in text
        assert "test_debug_mode.py:" in text
        handle.cancel()


def test_outside_debug_mode_nothing_is_noted(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(False)
    assert "created at" not in repr(loop.call_soon(print))


def test_coroutines_that_nobody_awaits_tell_their_origin(loop: asyncio.AbstractEventLoop) -> None:
    def make_and_forget() -> None:
        coroutine = be_a_slow_task()
        del coroutine

    async def main() -> None:
        make_and_forget()
        gc.collect()

    with pytest.warns(RuntimeWarning, match=r"(?s)was never awaited.*Coroutine created at.*make_and_forget"):
        loop.run_until_complete(main())


def test_debug_mode_can_change_during_a_run(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[bool]:
        modes = []
        for mode in (False, True, False):
            loop.set_debug(mode)
            await asyncio.sleep(0)
            modes.append("created at" in repr(loop.call_soon(int)))
        return modes

    assert loop.run_until_complete(main()) == [False, True, False]
