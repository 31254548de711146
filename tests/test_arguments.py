"""Wrong arguments: the same types of exceptions as asyncio's, with a text as good, at the call."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from conftest import MakeLoop

Call = Callable[[Any], Any]

# What is called, the exception, and what its text says on either loop.
WRONG_CALLS: list[tuple[Call, type[Exception], str]] = [
    (lambda loop: loop.call_soon(), TypeError, r"call_soon\(\) missing 1 required positional argument"),
    (lambda loop: loop.call_later(1), TypeError, r"call_later\(\) missing 1 required positional argument"),
    (lambda loop: loop.call_at(1), TypeError, r"call_at\(\) missing 1 required positional argument"),
    (lambda loop: loop.call_later(None, print), TypeError, "delay must not be None"),
    (lambda loop: loop.call_at(None, print), TypeError, "when cannot be None"),
    (lambda loop: loop.call_later("1", print), TypeError, "str"),
    (lambda loop: loop.call_soon(print, unknown=1), TypeError, "unexpected keyword argument 'unknown'"),
    (lambda loop: loop.run_until_complete(3), TypeError, "a coroutine or an awaitable is required"),
    (lambda loop: loop.set_task_factory(3), TypeError, "task factory must be a callable or None"),
    (lambda loop: loop.set_exception_handler(3), TypeError, "A callable object or None is expected"),
    (lambda loop: loop.set_default_executor(3), TypeError, "executor must be ThreadPoolExecutor"),
    (lambda loop: loop.add_reader(-1, print), ValueError, "Invalid file descriptor: -1"),
    (lambda loop: loop.add_writer(-1, print), ValueError, "Invalid file descriptor: -1"),
    (lambda loop: loop.remove_reader(-1), ValueError, "Invalid file descriptor: -1"),
    (lambda loop: loop.remove_writer(-1), ValueError, "Invalid file descriptor: -1"),
    (lambda loop: loop.add_reader("name", print), ValueError, "Invalid file object: 'name'"),
]


@pytest.mark.parametrize("case", WRONG_CALLS, ids=[str(number) for number in range(len(WRONG_CALLS))])
def test_a_wrong_call_is_refused(make_loop: MakeLoop, case: tuple[Call, type[Exception], str]) -> None:
    call, kind, text = case
    with closing(make_loop()) as loop, pytest.raises(kind, match=text):
        call(loop)


def test_errors_of_the_system_carry_their_number(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        with pytest.raises(OSError, match="Bad file descriptor") as unknown:
            loop.add_reader(99_999, print)
        assert unknown.value.errno == errno.EBADF
        assert str(unknown.value) == "[Errno 9] Bad file descriptor"
        with open(__file__, encoding="utf-8") as file:
            for add in (loop.add_reader, loop.add_writer):
                with pytest.raises(PermissionError) as regular:
                    add(file, print)
                assert regular.value.errno == errno.EPERM
                assert regular.value.strerror == "Operation not permitted"


def test_socket_calls_report_errors_of_the_system(make_loop: MakeLoop) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> list[int | None]:
        numbers = []
        lonely = socket.socket()
        lonely.setblocking(False)
        with lonely:
            for call in (loop.sock_recv(lonely, 10), loop.sock_sendall(lonely, b"data")):
                with pytest.raises(OSError) as raised:  # noqa: PT011, the number is looked at
                    await call
                numbers.append(raised.value.errno)
        for call in (loop.sock_recv(lonely, 10), loop.sock_sendall(lonely, b"data")):
            with pytest.raises((OSError, ValueError)):
                await call
        return numbers

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main(loop)) == [errno.ENOTCONN, errno.EPIPE]


RECEIVE_SIZES: list[tuple[Any, type[Exception]]] = [(-1, ValueError), ("1", TypeError), (1.5, TypeError)]


@pytest.mark.parametrize(("size", "kind"), RECEIVE_SIZES)
def test_sizes_that_make_no_sense(make_loop: MakeLoop, size: Any, kind: type[Exception]) -> None:
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there, closing(make_loop()) as loop:
        there.send(b"kept")
        with pytest.raises(kind):
            loop.run_until_complete(loop.sock_recv(here, size))
        assert loop.run_until_complete(loop.sock_recv(here, 0)) == b""
        assert loop.run_until_complete(loop.sock_recv(here, 10)) == b"kept"
