"""Work in other threads, and name resolution, which is done there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import socket
import threading
from contextlib import closing

import pytest
from conftest import MakeLoop


def test_results_and_exceptions_come_back(make_loop: MakeLoop) -> None:
    def fail() -> None:
        raise LookupError("on purpose")

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(loop.run_in_executor(None, pow, 2, 10)) == 1024
        ran_in = loop.run_until_complete(loop.run_in_executor(None, threading.get_ident))
        assert ran_in != threading.get_ident()
        with pytest.raises(LookupError, match="on purpose"):
            loop.run_until_complete(loop.run_in_executor(None, fail))
        loop.run_until_complete(loop.shutdown_default_executor())


def test_a_given_executor_is_used(make_loop: MakeLoop) -> None:
    def thread_name() -> str:
        return threading.current_thread().name

    with (
        closing(make_loop()) as loop,
        concurrent.futures.ThreadPoolExecutor(thread_name_prefix="given") as executor,
    ):
        name = loop.run_until_complete(loop.run_in_executor(executor, thread_name))
        assert name.startswith("given")
        loop.set_default_executor(executor)
        name = loop.run_until_complete(loop.run_in_executor(None, thread_name))
        assert name.startswith("given")


def test_the_context_goes_along_with_to_thread(make_loop: MakeLoop) -> None:
    variable = contextvars.ContextVar("variable", default="nothing")

    async def main() -> str:
        variable.set("something")
        return await asyncio.to_thread(variable.get)

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == "something"
        loop.run_until_complete(loop.shutdown_default_executor())


def test_many_at_once(make_loop: MakeLoop) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, abs, -number) for number in range(500)))

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == list(range(500))
        loop.run_until_complete(loop.shutdown_default_executor())


def test_after_shutdown_the_default_executor_refuses(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        loop.run_until_complete(loop.shutdown_default_executor())
        with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
            loop.run_in_executor(None, print)


def test_numeric_names_resolve(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        found = loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))
        assert (socket.AF_INET, ("127.0.0.1", 80)) in [(entry[0], entry[4]) for entry in found]
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        name = loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), flags))
        assert name == ("127.0.0.1", "80")
        loop.run_until_complete(loop.shutdown_default_executor())


def test_names_that_do_not_resolve(make_loop: MakeLoop) -> None:
    async def main() -> list[int | None]:
        loop = asyncio.get_running_loop()
        numbers = []
        for call in (
            loop.getaddrinfo("no number", 80, flags=socket.AI_NUMERICHOST),
            loop.create_connection(asyncio.Protocol, "no number", 80, flags=socket.AI_NUMERICHOST),
            loop.create_server(asyncio.Protocol, "no number", 80, flags=socket.AI_NUMERICHOST),
        ):
            with pytest.raises(socket.gaierror) as raised:
                await call
            numbers.append(raised.value.errno)
        return numbers

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == [socket.EAI_NONAME] * 3
        loop.run_until_complete(loop.shutdown_default_executor())
