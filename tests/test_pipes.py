"""`connect_read_pipe` and `connect_write_pipe`: pipes, FIFOs, sockets and terminals."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pty
import socket
import tty
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop

LIMIT = 30.0
# More than a pipe, a socket or a terminal holds.
MUCH = bytes(range(256)) * 4096

pytestmark = pytest.mark.thread_unsafe(reason="closes descriptors and reuses their numbers")


class Recorder(asyncio.Protocol):
    """Notes what it is told; `lost` is done at the end."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.arrived.set()

    def eof_received(self) -> None:
        self.events.append("end")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)
        self.lost.set_result(None)


async def reader(end: Any) -> tuple[asyncio.ReadTransport, Recorder]:
    return await asyncio.get_running_loop().connect_read_pipe(Recorder, end)


async def writer(end: Any) -> tuple[asyncio.WriteTransport, Recorder]:
    return await asyncio.get_running_loop().connect_write_pipe(Recorder, end)


def open_file(path: object, mode: str) -> Any:
    return open(path, mode, 0)  # type: ignore[call-overload]


def opened(read: int, write: int) -> tuple[Any, Any]:
    return open_file(read, "rb"), open_file(write, "wb")


def make_pipe(folder: Path) -> tuple[Any, Any]:
    return opened(*os.pipe())


def make_fifo(folder: Path) -> tuple[Any, Any]:
    os.mkfifo(folder / "fifo")
    read = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    return opened(read, os.open(folder / "fifo", os.O_WRONLY))


def make_terminal(folder: Path) -> tuple[Any, Any]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    return opened(master, slave)


KINDS = [make_pipe, make_fifo, lambda folder: socket.socketpair(), make_terminal]


@pytest.fixture
def run(make_loop: MakeLoop) -> Iterator[Callable[[Any], Any]]:
    """Runs a coroutine on a loop of either make."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        yield lambda main: runner.run(asyncio.wait_for(main, LIMIT))


@pytest.mark.parametrize("kind", KINDS, ids=["pipe", "fifo", "sockets", "terminal"])
def test_everything_arrives_in_order(
    run: Callable[[Any], Any], tmp_path: Path, kind: Callable[[Path], tuple[Any, Any]]
) -> None:
    async def main() -> None:
        read, write = kind(tmp_path)
        receiving, received = await reader(read)
        sending, sent = await writer(write)
        assert receiving.get_extra_info("pipe") is read
        assert sending.get_extra_info("pipe") is write
        sending.write(MUCH)
        sending.writelines([b"b", bytearray(b"c"), memoryview(b"d"), b""])
        assert sending.get_write_buffer_size() > 0
        assert sent.events == ["made", "pause"]
        sending.close()
        assert sending.is_closing()
        await sent.lost
        await received.lost
        assert received.data == MUCH + b"bcd"
        assert sent.events == ["made", "pause", "resume", None]
        *_, last = received.events
        if kind is make_terminal:
            # How the slave's end shows on Linux.
            assert isinstance(last, OSError)
            assert last.errno == errno.EIO
        else:
            assert received.events == ["made", "end", None]
        await asyncio.sleep(0)
        assert read.fileno() == -1 if isinstance(read, socket.socket) else read.closed

    run(main())


@pytest.mark.parametrize("queued", [False, True], ids=["idle", "with data queued"])
def test_the_writer_hears_that_the_reader_has_gone(run: Callable[[Any], Any], queued: bool) -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        sending, sent = await writer(write)
        if queued:
            sending.write(MUCH)
        read.close()
        await sent.lost
        *_, last = sent.events
        assert type(last) is (BrokenPipeError if queued else type(None))
        for _ in range(3):
            sending.write(b"dropped")

    run(main())


def test_a_write_into_a_broken_pipe_ends_the_connection(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        sending, sent = await writer(write)
        read.close()
        sending.write(b"nobody reads this")
        assert sending.is_closing()
        await sent.lost
        *_, last = sent.events
        assert isinstance(last, BrokenPipeError)

    run(main())


def test_reading_pauses_and_goes_on(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        with write:
            receiving, received = await reader(read)
            receiving.pause_reading()
            receiving.pause_reading()
            assert not receiving.is_reading()
            write.write(b"later")
            await asyncio.sleep(0.01)
            assert not received.data
            receiving.resume_reading()
            receiving.resume_reading()
            await received.arrived.wait()
            assert received.data == b"later"
            assert receiving.is_reading()
            receiving.close()
            receiving.close()
            receiving.resume_reading()
            assert not receiving.is_reading()
            await received.lost
            assert received.events == ["made", None]

    run(main())


def test_flow_control_follows_the_water_marks(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        with read:
            os.set_blocking(read.fileno(), False)
            sending, sent = await writer(write)
            sending.set_write_buffer_limits(high=10, low=5)
            assert sending.get_write_buffer_limits() == (5, 10)
            sending.write(MUCH)
            assert sent.events == ["made", "pause"]
            while "resume" not in sent.events:
                await asyncio.sleep(0)
                read.read(65536)
            assert sending.get_write_buffer_size() <= 5
            sending.write(MUCH)
            sending.abort()
            assert sending.get_write_buffer_size() == 0
            await sent.lost
            assert sent.events == ["made", "pause", "resume", "pause", None]

    run(main())


def test_a_lost_connection_is_told_once() -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        sending, sent = await writer(write)
        receiving, received = await reader(read)
        sending.close()
        sending.abort()
        receiving.close()
        await asyncio.sleep(0.01)
        sending.abort()
        sending.close()
        receiving.close()
        await asyncio.sleep(0.01)
        assert sent.events == received.events == ["made", None]

    motet.run(main())


def test_other_descriptors_are_refused(run: Callable[[Any], Any], tmp_path: Path) -> None:
    async def main() -> None:
        with open_file(tmp_path / "file", "w+b") as file:
            with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
                await reader(file)
            with pytest.raises(
                ValueError, match=r"^Pipe transport is only for pipes, sockets and character devices$"
            ):
                await writer(file)
            file.write(b"still open")

    run(main())


def test_what_cannot_be_waited_for_fails_at_the_call() -> None:
    async def main() -> None:
        with pytest.raises(PermissionError):
            await reader(open_file(os.devnull, "rb"))
        sending, sent = await writer(open_file(os.devnull, "wb"))
        sending.write(MUCH)
        assert sending.get_write_buffer_size() == 0
        sending.close()
        await sent.lost
        with pytest.raises(TypeError, match="bytes-like object, not 'str'"):
            sending.write("text")  # type: ignore[arg-type]

    motet.run(main())


def test_a_fifo_open_for_both_has_a_reader_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        os.mkfifo(tmp_path / "fifo")
        end = open_file(os.open(tmp_path / "fifo", os.O_RDWR), "r+b")
        sending, sent = await writer(end)
        sending.write(b"unread")
        await asyncio.sleep(0.01)
        assert sent.events == ["made"]
        sending.close()
        await sent.lost

    motet.run(main())


def test_a_number_that_others_have_got_is_left_alone() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read, write = opened(*os.pipe())
        sending, sent = await writer(write)
        strangers_read, strangers_write = os.pipe()
        number = write.fileno()
        write.close()
        os.dup2(strangers_write, number)
        called = asyncio.Event()
        loop.add_reader(strangers_read, called.set)
        loop.add_writer(number, loop.remove_writer, number)
        sending.write(b"not for strangers")
        await sent.lost
        *_, last = sent.events
        assert isinstance(last, OSError)
        assert last.errno == errno.EBADF
        assert not called.is_set()
        # Still open, and still watched.
        os.write(number, b"for strangers")
        await called.wait()
        loop.remove_reader(strangers_read)
        for descriptor in (number, strangers_read, strangers_write):
            os.close(descriptor)
        read.close()

    motet.run(main())


def test_a_cancelled_connect_closes_the_pipe(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        tasks = [asyncio.create_task(reader(read)), asyncio.create_task(writer(write))]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0.01)
        assert read.closed
        assert write.closed

    run(main())


def test_an_unclosed_transport_warns_and_closes(make_loop: MakeLoop) -> None:
    read, write = opened(*os.pipe())

    async def main() -> tuple[object, object]:
        receiving, _ = await reader(read)
        sending, _ = await writer(write)
        return receiving, sending

    with closing(make_loop()) as loop:
        transports = loop.run_until_complete(main())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transports, loop
        gc.collect()
    assert sum("unclosed transport" in str(warning.message) for warning in caught) == 2
    assert read.closed
    assert write.closed


def test_an_ended_transport_is_no_garbage() -> None:
    async def main() -> None:
        read, write = opened(*os.pipe())
        receiving, received = await reader(read)
        sending, _ = await writer(write)
        sending.write(MUCH)
        sending.close()
        await received.lost
        known = [weakref.ref(transport) for transport in (receiving, sending)]
        del receiving, sending
        await asyncio.sleep(0.01)
        assert [reference() for reference in known] == [None, None]

    gc.disable()
    try:
        motet.run(main())
    finally:
        gc.enable()
