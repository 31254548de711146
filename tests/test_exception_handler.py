"""Where exceptions go: callbacks and protocol methods to the exception handler, none is swallowed."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
from contextlib import closing
from typing import Any

import motet
import pytest
from conftest import MakeLoop


class OnPurposeError(Exception):
    """Raised by the tests."""


class BaseOnPurpose(BaseException):
    """Not an `Exception`, and none of those that end the run."""


def fail(error: BaseException | None = None) -> None:
    raise error or OnPurposeError("on purpose")


def record(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, details: reports.append(details))
    return reports


@pytest.mark.parametrize("error", [OnPurposeError("on purpose"), BaseOnPurpose("on purpose")])
def test_a_callback_that_fails_is_reported_and_the_loop_goes_on(
    make_loop: MakeLoop, error: BaseException
) -> None:
    with closing(make_loop()) as loop:
        reports = record(loop)
        ran: list[int] = []
        handles = [loop.call_soon(fail, error), loop.call_later(0, fail, error)]
        loop.call_soon(ran.append, 1)
        loop.run_until_complete(asyncio.sleep(0.01))
    assert ran == [1]
    assert [report["exception"] for report in reports] == [error, error]
    assert [report["handle"] for report in reports] == handles
    assert all("Exception in callback" in report["message"] for report in reports)
    assert all("fail" in report["message"] for report in reports)
    assert all(re.match(r"<(Timer)?Handle .*fail\(", repr(handle)) for handle in handles)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_run_comes_out_of_it(make_loop: MakeLoop, kind: type[BaseException]) -> None:
    with closing(make_loop()) as loop:
        reports = record(loop)
        ran: list[str] = []
        loop.call_soon(fail, kind())
        loop.call_soon(ran.append, "left over")
        with pytest.raises(kind):
            loop.run_forever()
        assert not loop.is_running()
        loop.run_until_complete(asyncio.sleep(0))
    assert ran == ["left over"]
    assert reports == []


def test_without_a_handler_it_is_logged(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "asyncio"), closing(make_loop()) as loop:
        loop.call_soon(fail)
        loop.run_until_complete(asyncio.sleep(0))
    (message,) = [record for record in caplog.records if record.name == "asyncio"]
    assert "Exception in callback fail()" in message.getMessage()
    assert message.exc_info
    assert isinstance(message.exc_info[1], OnPurposeError)


def test_a_handler_that_fails_is_logged(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "asyncio"), closing(make_loop()) as loop:
        loop.set_exception_handler(lambda *_: fail())
        loop.call_soon(fail)
        loop.run_until_complete(asyncio.sleep(0))
    assert "Unhandled error in exception handler" in caplog.text


def test_a_task_nobody_asks_is_reported(make_loop: MakeLoop) -> None:
    async def fail_as_task() -> None:
        fail()

    with closing(make_loop()) as loop:
        reports = record(loop)
        task = loop.create_task(fail_as_task())
        loop.run_until_complete(asyncio.sleep(0))
        del task
        gc.collect()
    (report,) = reports
    assert report["message"] == "Task exception was never retrieved"
    assert isinstance(report["exception"], OnPurposeError)


class Failing(asyncio.Protocol):
    """Fails in one of its methods and keeps what it hears."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.heard: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def hear(self, method: str) -> None:
        self.heard.append(method)
        if method == self.where:
            fail()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.hear("connection_made")

    def data_received(self, data: bytes) -> None:
        self.hear("data_received")

    def eof_received(self) -> None:
        self.hear("eof_received")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)
        self.hear("connection_lost")


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_a_protocol_method_that_fails_is_reported(make_loop: MakeLoop, where: str) -> None:
    async def main(loop: asyncio.AbstractEventLoop) -> tuple[list[str], Exception | None]:
        here, there = socket.socketpair()
        with there:
            _, protocol = await loop.create_unix_connection(lambda: Failing(where), sock=here)
            there.send(b"data")
            await asyncio.sleep(0.01)
            there.shutdown(socket.SHUT_WR)
            error = await asyncio.wait_for(protocol.lost, 30)
            await asyncio.sleep(0.01)
            return protocol.heard, error

    with closing(make_loop()) as loop:
        reports = record(loop)
        heard, error = loop.run_until_complete(main(loop))
    assert [type(report["exception"]) for report in reports] == [OnPurposeError]
    assert heard[0] == "connection_made"
    assert heard[-1] == "connection_lost"
    assert heard.count("connection_lost") == 1
    # After these the connection cannot go on.
    assert isinstance(error, OnPurposeError) == (where in ("data_received", "eof_received"))


@pytest.mark.parametrize("where", ["pause_writing", "resume_writing"])
def test_flow_control_that_fails_is_reported_and_nothing_is_lost(make_loop: MakeLoop, where: str) -> None:
    class FailingWriter(asyncio.Protocol):
        def pause_writing(self) -> None:
            if where == "pause_writing":
                fail()

        def resume_writing(self) -> None:
            if where == "resume_writing":
                fail()

    data = bytes(range(256)) * 4096

    async def main(loop: asyncio.AbstractEventLoop) -> bytes:
        here, there = socket.socketpair()
        there.setblocking(False)
        with there:
            transport, _ = await loop.create_unix_connection(FailingWriter, sock=here)
            transport.write(data)
            transport.close()
            received = b""
            while part := await loop.sock_recv(there, 100_000):
                received += part
            return received

    with closing(make_loop()) as loop:
        reports = record(loop)
        assert loop.run_until_complete(main(loop)) == data
    assert [type(report["exception"]) for report in reports] == [OnPurposeError]


def test_a_factory_that_fails_is_reported_and_the_server_goes_on() -> None:
    made: list[int] = []

    def factory() -> asyncio.Protocol:
        made.append(1)
        if len(made) == 1:
            fail()
        return asyncio.Protocol()

    async def main(loop: asyncio.AbstractEventLoop) -> None:
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(2):
            with socket.create_connection(address):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.02)
        server.close()
        await server.wait_closed()

    with closing(motet.new_event_loop()) as loop:
        reports = record(loop)
        loop.run_until_complete(main(loop))
    assert len(made) == 2
    assert [type(report["exception"]) for report in reports] == [OnPurposeError]
    assert "transport creation" in reports[0]["message"]


def test_a_failing_reader_is_reported_and_called_again(make_loop: MakeLoop) -> None:
    here, there = socket.socketpair()
    with here, there, closing(make_loop()) as loop:
        reports = record(loop)
        there.send(b"x")
        loop.add_reader(here, fail)
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.remove_reader(here)
    assert len(reports) > 1
    assert all(isinstance(report["exception"], OnPurposeError) for report in reports)
