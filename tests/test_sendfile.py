"""`sendfile` and `sock_sendfile`: by the kernel and by the fallback, order, position, ends and errors."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop

DATA = bytes(range(256)) * 12_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def run(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Callable[[], Awaitable[Any]]) -> Any:
    with closing(make_loop()) as loop:
        result = loop.run_until_complete(asyncio.wait_for(body(), 60))
        loop.run_until_complete(loop.shutdown_default_executor())
        return result


class Flow(asyncio.Protocol):
    """Keeps what flow control says, and the end."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.received = b""
        self.heard = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.heard.set()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[Any, Flow, socket.socket]]:
    """A transport, its protocol and the peer."""
    here, there = socket.socketpair()
    there.setblocking(False)
    with there:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(Flow, sock=here)
        try:
            yield transport, protocol, there
        finally:
            if not transport.is_closing():
                transport.abort()
            await protocol.lost


async def read_all(peer: socket.socket) -> bytes:
    received = bytearray()
    while part := await asyncio.get_running_loop().sock_recv(peer, 65536):
        received += part
    return bytes(received)


class Unmapped(io.RawIOBase):
    """A file without a descriptor."""

    def __init__(self) -> None:
        self._memory = io.BytesIO(DATA)

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._memory.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        return self._memory.readinto(buffer)

    def tell(self) -> int:
        return self._memory.tell()


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 2_000_000), (len(DATA) - 5, None), (7, 10)])
def test_a_part_of_a_file(
    make_loop: MakeLoop, path: Path, native: bool, offset: int, count: int | None
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with path.open("rb") if native else Unmapped() as file:
            async with connection() as (transport, _, peer):
                reading = loop.create_task(read_all(peer))
                transport.write(b"before ")
                sent = await loop.sendfile(transport, file, offset, count)
                transport.write(b" after")
                transport.close()
                expected = DATA[offset:] if count is None else DATA[offset : offset + count]
                assert await reading == b"before " + expected + b" after"
                assert sent == len(expected)
                assert file.tell() == offset + sent

    run(make_loop, main)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
def test_a_part_of_a_file_through_a_socket(make_loop: MakeLoop, path: Path, native: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        for sock in (here, there):
            sock.setblocking(False)
        with here, there, path.open("rb") if native else Unmapped() as file:
            reading = loop.create_task(read_all(there))
            await loop.sock_sendall(here, b"before ")
            assert await loop.sock_sendfile(here, file, 10, 2_000_000) == 2_000_000
            assert file.tell() == 2_000_010
            await loop.sock_sendall(here, b" after")
            here.close()
            assert await reading == b"before " + DATA[10:2_000_010] + b" after"

    run(make_loop, main)


def test_a_pipe_is_read_to_its_end() -> None:
    """The kernel cannot send it, and it has no position."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        source, target = os.pipe()
        with os.fdopen(source, "rb") as file:
            os.write(target, b"from a pipe")
            os.close(target)
            async with connection() as (transport, _, peer):
                assert await loop.sendfile(transport, file) == 11
                transport.close()
                assert await read_all(peer) == b"from a pipe"

    run(motet.new_event_loop, main)


def test_bad_arguments_fail_at_the_call(make_loop: MakeLoop, path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)
        with (
            here,
            there,
            path.open("rb") as file,
            path.open() as text,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            with pytest.raises(ValueError, match="binary mode"):
                await loop.sock_sendfile(here, text)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="count must be a positive integer"):
                await loop.sock_sendfile(here, file, 0, 0)
            with pytest.raises(ValueError, match="offset must be a non-negative integer"):
                await loop.sock_sendfile(here, file, -1)
            udp.setblocking(False)
            with pytest.raises(ValueError, match="SOCK_STREAM"):
                await loop.sock_sendfile(udp, file)
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sock_sendfile(here, Unmapped(), fallback=False)  # type: ignore[arg-type]
            async with connection() as (transport, _, _):
                with pytest.raises(asyncio.SendfileNotAvailableError):
                    await loop.sendfile(transport, Unmapped(), fallback=False)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="binary mode"):
                    await loop.sendfile(transport, text)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="count must be a positive integer"):
                    await loop.sendfile(transport, file, 0, 0)
                with pytest.raises(TypeError, match="count must be a positive integer"):
                    await loop.sendfile(transport, file, 0, 1.5)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="offset must be a non-negative integer"):
                    await loop.sendfile(transport, file, -1)
                with pytest.raises(TypeError, match="offset must be a non-negative integer"):
                    await loop.sendfile(transport, file, "1")  # type: ignore[arg-type]
                transport.write(b"still open")
                transport.close()
                with pytest.raises(RuntimeError, match="Transport is closing"):
                    await loop.sendfile(transport, file)

    run(make_loop, main)


def test_the_output_belongs_to_the_file(path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connection() as (transport, protocol, peer):
            with path.open("rb") as file, path.open("rb") as other:
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0)
                for write in (lambda: transport.write(b"x"), lambda: transport.writelines([b"x"])):
                    with pytest.raises(RuntimeError, match="sendfile is in progress"):
                        write()
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    await loop.sendfile(transport, other)
                await loop.sock_sendall(peer, b"read later")
                await asyncio.sleep(0.01)
                assert protocol.received == b""
                received = bytearray()
                while len(received) < len(DATA):
                    received += await loop.sock_recv(peer, 65536)
                assert await sending == len(DATA)
                assert bytes(received) == DATA
                await protocol.heard.wait()
                assert protocol.received == b"read later"

    run(motet.new_event_loop, main)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
def test_cancellation_gives_the_transport_back(make_loop: MakeLoop, path: Path, native: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connection() as (transport, protocol, peer):
            with path.open("rb") if native else Unmapped() as file:
                sending = loop.create_task(loop.sendfile(transport, file))
                received = await loop.sock_recv(peer, 1000)
                await asyncio.sleep(0.02)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                if make_loop is motet.new_event_loop:
                    assert 1000 <= file.tell() < len(DATA)
            assert transport.get_protocol() is protocol
            transport.write(b" after")
            transport.close()
            received += await read_all(peer)
            assert received.endswith(b" after")
            assert DATA.startswith(received[: -len(b" after")])

    run(make_loop, main)


@pytest.mark.parametrize("native", [True, False], ids=["native", "fallback"])
@pytest.mark.parametrize("who", ["peer", "abort", "close"])
def test_an_end_in_the_middle_is_told(path: Path, native: bool, who: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connection() as (transport, _, peer):
            with path.open("rb") if native else Unmapped() as file:
                sending = loop.create_task(loop.sendfile(transport, file))
                await loop.sock_recv(peer, 1000)
                await asyncio.sleep(0.02)
                if who == "peer":
                    peer.close()
                else:
                    getattr(transport, who)()
                    peer.close()
                with pytest.raises(ConnectionError):
                    await sending
                assert 0 < file.tell() < len(DATA)

    run(motet.new_event_loop, main)


def test_a_file_that_is_closed_meanwhile_is_sent_to_its_end(path: Path, tmp_path: Path) -> None:
    """Another file gets the number; nothing of it goes out."""
    (tmp_path / "secret").write_bytes(b"secret" * 1_000_000)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connection() as (transport, _, peer):
            file = path.open("rb")
            number = file.fileno()
            sending = loop.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            file.close()
            strangers = [(tmp_path / "secret").open("rb") for _ in range(3)]
            assert number in [stranger.fileno() for stranger in strangers]
            reading = loop.create_task(read_all(peer))
            assert await sending == len(DATA)
            transport.close()
            assert await reading == DATA
            for stranger in strangers:
                stranger.close()

    run(motet.new_event_loop, main)


def test_a_descriptor_that_was_taken_away_is_not_used(path: Path) -> None:
    """The program detaches the socket object that it gave; another file gets the number."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with there, path.open("rb") as file:
            transport, protocol = await loop.create_unix_connection(Flow, sock=here)
            number = here.detach()
            os.close(number)
            strangers = socket.socketpair()
            assert number in [stranger.fileno() for stranger in strangers]
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(transport, file, fallback=False)
            with pytest.raises(ConnectionError):
                await loop.sendfile(transport, file)
            assert isinstance(await protocol.lost, OSError)
            for stranger in strangers:
                stranger.setblocking(False)
                with pytest.raises(BlockingIOError):
                    stranger.recv(100)
            for stranger in strangers:
                stranger.close()

    run(motet.new_event_loop, main)


def test_no_descriptor_is_left_behind(path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            async with connection() as (transport, _, peer):
                before = os.listdir("/proc/self/fd")
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0.01)
                assert len(os.listdir("/proc/self/fd")) == len(before) + 1
                peer.close()
                with suppress(ConnectionError):
                    await sending
                assert len(os.listdir("/proc/self/fd")) == len(before) - 1

    run(motet.new_event_loop, main)


def test_flow_control_is_passed_on_by_the_fallback(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connection() as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=1000)
            while "pause" not in protocol.events:
                transport.write(bytes(1000))
                await asyncio.sleep(0)
            sending = loop.create_task(loop.sendfile(transport, Unmapped()))  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            queued = transport.get_write_buffer_size()
            assert queued < 70_000
            reading = loop.create_task(read_all(peer))
            assert await sending == len(DATA)
            transport.close()
            received = await reading
            assert received.endswith(DATA)
            assert not any(received[: -len(DATA)])
            assert protocol.events[-1] == "resume"

    run(make_loop, main)
