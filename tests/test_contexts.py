"""Context variables: which context callbacks, tasks and protocol methods run in, and that none leaks."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


def set_in_copy(value: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(variable.set, value)
    return context


def test_a_callback_runs_in_a_copy_of_the_scheduling_context(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        seen: list[str] = []
        context = set_in_copy("scheduled")
        context.run(loop.call_soon, lambda: seen.append(variable.get()))
        context.run(loop.call_later, 0, lambda: seen.append(variable.get()))
        context.run(loop.call_soon_threadsafe, lambda: seen.append(variable.get()))
        context.run(variable.set, "changed afterwards")
        loop.run_until_complete(asyncio.sleep(0.01))
    assert seen == ["scheduled"] * 3


def test_a_given_context_is_entered_itself(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        context = contextvars.copy_context()
        loop.call_soon(variable.set, "by call_soon", context=context)
        loop.run_until_complete(asyncio.sleep(0))
        assert context[variable] == "by call_soon"
        loop.call_later(0, variable.set, "by call_later", context=context)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert context[variable] == "by call_later"
    assert variable.get() == "nothing"


def test_what_callbacks_set_stays_theirs(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        seen: list[str] = []
        for number in range(10):
            loop.call_soon(variable.set, str(number))
            loop.call_soon(lambda: seen.append(variable.get()))
        loop.run_until_complete(asyncio.sleep(0))
        assert seen == ["nothing"] * 10
    assert variable.get() == "nothing"


def test_interleaved_contexts_do_not_mix(make_loop: MakeLoop) -> None:
    async def keep(name: str) -> list[str]:
        variable.set(name)
        seen = []
        for _ in range(20):
            await asyncio.sleep(0)
            seen.append(variable.get())
        return seen

    async def main() -> list[list[str]]:
        return await asyncio.gather(*(keep(name) for name in "abc"))

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == [["a"] * 20, ["b"] * 20, ["c"] * 20]


def test_a_context_is_free_again_when_its_callback_has_failed(make_loop: MakeLoop) -> None:
    """Handlers of exceptions are run in the context of what has failed."""
    with closing(make_loop()) as loop:
        seen: list[str] = []
        loop.set_exception_handler(lambda *_: seen.append("handled"))
        context = set_in_copy("given")

        def fail() -> None:
            raise ValueError("on purpose")

        loop.call_soon(fail, context=context)
        loop.call_soon(lambda: seen.append(variable.get()), context=context)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert context.run(variable.get) == "given"
    assert seen == ["handled", "given"]


def test_a_context_that_is_entered_already_is_refused(
    make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(make_loop()) as loop:
        ran: list[int] = []
        context = contextvars.copy_context()
        loop.call_soon(ran.append, 1, context=context)
        context.run(loop.run_until_complete, asyncio.sleep(0))
    assert ran == []
    assert "cannot enter context" in caplog.text


def test_something_else_than_a_context_is_refused_at_the_call() -> None:
    with closing(motet.new_event_loop()) as loop:
        wrong: list[Any] = [3, {}]
        for context in wrong:
            with pytest.raises(TypeError, match=r"context must be a contextvars\.Context, not"):
                loop.call_soon(print, context=context)
            with pytest.raises(TypeError, match=r"context must be a contextvars\.Context, not"):
                loop.call_later(0, print, context=context)


def test_none_means_the_current_context() -> None:
    with closing(motet.new_event_loop()) as loop:
        seen: list[str] = []
        set_in_copy("current").run(lambda: loop.call_soon(lambda: seen.append(variable.get()), context=None))
        loop.run_until_complete(asyncio.sleep(0))
    assert seen == ["current"]


def test_a_protocol_runs_where_its_connection_was_made(make_loop: MakeLoop) -> None:
    seen: list[tuple[str, str]] = []

    class Recorder(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(("made", variable.get()))

        def data_received(self, data: bytes) -> None:
            seen.append(("data", variable.get()))

        def eof_received(self) -> None:
            seen.append(("eof", variable.get()))

        def connection_lost(self, error: Exception | None) -> None:
            seen.append(("lost", variable.get()))

    async def main() -> None:
        here, there = socket.socketpair()
        variable.set("connecting")
        await asyncio.get_running_loop().create_connection(Recorder, sock=here)
        variable.set("afterwards")
        there.send(b"data")
        await asyncio.sleep(0.01)
        there.close()
        await asyncio.sleep(0.01)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
    assert seen == [(event, "connecting") for event in ("made", "data", "eof", "lost")]


def test_a_reader_runs_where_it_was_added(make_loop: MakeLoop) -> None:
    here, there = socket.socketpair()
    with here, there, closing(make_loop()) as loop:
        seen: list[str] = []

        def read() -> None:
            here.recv(1)
            seen.append(variable.get())
            variable.set("by the reader")

        set_in_copy("adding").run(loop.add_reader, here, read)
        there.send(b"x")
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.remove_reader(here)
    assert seen == ["adding"]
