"""Native streams: what they are, where they come from, what they work with, and what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import weakref
from asyncio import streams
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import motet
import pytest
from stream_helpers import LIMIT, connected, echo, run
from tls_helpers import client_context, server_context


def test_they_are_asyncio_streams() -> None:
    async def main() -> None:
        async with connected(motet, echo) as (reader, writer):
            assert isinstance(reader, asyncio.StreamReader)
            assert isinstance(writer, asyncio.StreamWriter)
            assert isinstance(writer.transport.get_protocol(), asyncio.StreamReaderProtocol)
            assert repr(reader).startswith("<StreamReader transport=<SocketTransport")
            assert writer.get_extra_info("peername") == writer.transport.get_extra_info("peername")
            writer.writelines([b"one ", b"two"])
            assert await reader.readexactly(7) == b"one two"
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == b""
            assert reader.at_eof()

    run(main())


# What is fed, in which pieces, and what is read: the outcome must be the stock reader's.


def test_separators_in_a_tuple_on_every_python() -> None:
    async def main() -> None:
        reader = motet.StreamReader(limit=100, loop=asyncio.get_running_loop())
        reader.feed_data(b"one;two\r\nthree")
        separators = (b"\r\n", b";")
        assert await reader.readuntil(separators) == b"one;"
        assert await reader.readuntil(separators) == b"two\r\n"
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(separators)
        assert caught.value.partial == b"three"
        with pytest.raises(ValueError, match="at least one element"):
            await reader.readuntil(())
        with pytest.raises(ValueError, match="at least one-byte"):
            await reader.readuntil((b"x", b""))

    run(main())


def test_a_read_that_is_there_does_not_wait() -> None:
    loop = motet.new_event_loop()
    reader = motet.StreamReader(loop=loop)
    reader.feed_data(b"one\ntwo\nthree")
    reader.feed_eof()
    for read, expected in [
        (reader.readline(), b"one\n"),
        (reader.readuntil(b"o\n"), b"two\n"),
        (reader.read(2), b"th"),
        (reader.readexactly(1), b"r"),
        (reader.read(), b"ee"),
    ]:
        with pytest.raises(StopIteration) as stopped:
            read.send(None)
        assert stopped.value.value == expected
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            read.send(None)
    loop.close()


def test_timeouts_and_tasks_over_reads() -> None:
    async def main() -> None:
        async with connected(motet, echo) as (reader, writer):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.01)
            cancelled = asyncio.create_task(reader.read(10))
            await asyncio.sleep(0)
            cancelled.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await cancelled
            first = asyncio.ensure_future(reader.readexactly(2))
            assert isinstance(first, asyncio.Task)
            assert "StreamReader.readexactly" in repr(first)
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match=r"^read\(\) called while another coroutine is already"):
                await reader.read(10)
            writer.write(b"hi")
            assert await asyncio.gather(first, asyncio.sleep(0, "slept")) == [b"hi", "slept"]
            assert await asyncio.shield(asyncio.create_task(writer.drain())) is None

    run(main())


def test_writing_to_a_closed_stream_ends() -> None:
    async def main() -> None:
        async with connected(motet, echo) as (_, writer):
            writer.close()
            assert writer.is_closing()

            async def write_on() -> None:
                while True:
                    writer.write(b"x")
                    await writer.drain()

            with pytest.raises(ConnectionResetError, match="Connection lost"):
                await write_on()

    run(main())


def test_unix_streams() -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            async with await motet.start_unix_server(echo, path):
                reader, writer = await motet.open_unix_connection(path)
                writer.write(b"over a path")
                writer.write_eof()
                assert await reader.read() == b"over a path"
                writer.close()
                await writer.wait_closed()

    run(main())


class Wrapped(asyncio.Transport):
    """A transport that is not motet's, around one that is."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self.inner = inner

    def __getattribute__(self, name: str) -> Any:
        if name in ("inner", "__class__"):
            return super().__getattribute__(name)
        return getattr(self.inner, name)


def test_streams_over_any_transport_and_protocol() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await motet.start_server(echo, "127.0.0.1", 0) as server:

            class Outer(asyncio.Protocol):
                """Passes on to a native protocol, as TLS does."""

                def __init__(self) -> None:
                    self.reader = motet.StreamReader(loop=loop)
                    self.inner = motet.StreamReaderProtocol(self.reader, loop=loop)

                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    self.inner.connection_made(Wrapped(transport))  # type: ignore[arg-type]

                def data_received(self, data: bytes) -> None:
                    self.inner.data_received(data)

                def eof_received(self) -> bool:
                    return self.inner.eof_received()

                def connection_lost(self, exc: Exception | None) -> None:
                    self.inner.connection_lost(exc)

            transport, outer = await loop.create_connection(Outer, *server.sockets[0].getsockname())
            kinds = (motet.StreamWriter, asyncio.StreamWriter)
            writers = [kind(Wrapped(transport), outer.inner, outer.reader, loop) for kind in kinds]
            for writer in writers:
                writer.write(b"through two layers\n")
                await writer.drain()
                assert await outer.reader.readline() == b"through two layers\n"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_reader_that_overrides_feed_data_is_asked() -> None:
    class Shouting(motet.StreamReader):
        def feed_data(self, data: bytes) -> None:
            super().feed_data(data.upper())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await motet.start_server(echo, "127.0.0.1", 0) as server:
            reader = Shouting(loop=loop)
            protocol = motet.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname())
            writer = motet.StreamWriter(transport, protocol, reader, loop)
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.fixture
def without_collector() -> Iterator[None]:
    """What is gone has gone by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_nothing_is_left_of_a_connection(without_collector: None) -> None:
    left: list[weakref.ref[Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.extend(weakref.ref(one) for one in (reader, writer, writer.transport))
        left.append(weakref.ref(writer.transport.get_protocol()))
        await echo(reader, writer)

    async def main() -> None:
        async with connected(motet, serve) as (reader, writer):
            left.extend(weakref.ref(one) for one in (reader, writer, writer.transport))
            read = asyncio.create_task(reader.readline())
            await asyncio.sleep(0)
            read.cancel()
            writer.write(b"line\n")
            assert await reader.readline() == b"line\n"
            await asyncio.wait([read])

    run(main())
    assert len(left) == 7
    assert not [one() for one in left if one() is not None]


def test_a_stream_that_nobody_has_closed() -> None:
    async def main() -> None:
        async with await motet.start_server(echo, "127.0.0.1", 0) as server:
            _, writer = await motet.open_connection(*server.sockets[0].getsockname())
            transport = writer.transport
            with pytest.warns(ResourceWarning, match="unclosed <StreamWriter transport=<SocketTransport"):
                del _, writer
            assert transport.is_closing()
            await asyncio.sleep(0.01)

    run(main())


def test_a_forgotten_stream_that_another_thread_collects(
    without_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `pytest.warns` records depends on the context, and finalisers run in whichever there is.
    warned: list[str] = []
    monkeypatch.setattr("warnings.warn", lambda message, *_, **__: warned.append(str(message)))

    async def main() -> None:
        left, right = socket.socketpair()
        with right:
            reader, writer = await motet.open_connection(sock=left)
            cycle: list[Any] = [reader, writer]
            cycle.append(cycle)
            there = weakref.ref(writer)
            del reader, writer, cycle
            right.setblocking(False)
            while there() is not None:
                await asyncio.to_thread(gc.collect)
            assert await asyncio.get_running_loop().sock_recv(right, 1) == b""

    run(main())
    assert any(message.startswith("unclosed <SocketTransport") for message in warned)


def test_a_read_that_nobody_has_awaited() -> None:
    loop = motet.new_event_loop()
    reader = motet.StreamReader(loop=loop)
    with pytest.warns(RuntimeWarning, match=r"coroutine 'StreamReader.readline' was never awaited"):
        reader.readline()
    loop.close()


def test_the_asyncio_functions_under_motet_run() -> None:
    before = [getattr(asyncio, name) for name in ("open_connection", "start_server", "open_unix_connection")]

    async def kinds() -> list[type]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(type(reader))
            writer.close()

        found: list[type] = []
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            await reader.read()
            writer.close()
            await writer.wait_closed()
        return [*found, type(reader), type(writer)]

    native = [motet.StreamReader, motet.StreamReader, motet.StreamWriter]
    stock = [asyncio.StreamReader, asyncio.StreamReader, asyncio.StreamWriter]
    assert motet.run(kinds()) == native
    assert run(kinds()) == stock
    assert [
        getattr(asyncio, name) for name in ("open_connection", "start_server", "open_unix_connection")
    ] == before

    async def another_loop() -> list[type]:
        def on_stock_loop() -> list[type]:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                return runner.run(kinds())

        return await asyncio.to_thread(on_stock_loop)

    assert motet.run(another_loop()) == stock


def test_bad_calls_fail() -> None:
    async def main() -> None:
        reader: Any = motet.StreamReader(loop=asyncio.get_running_loop())
        for call, message in [
            (lambda: motet.StreamReader(limit=0), "Limit cannot be <= 0"),
            (lambda: reader.readexactly(-1), "readexactly size can not be less than zero"),
            (lambda: reader.readuntil(b""), "Separator should be at least one-byte string"),
        ]:
            with pytest.raises(ValueError, match=message):
                call()
        for call in [
            lambda: reader.read("many"),
            lambda: reader.read(1, 2),
            lambda: reader.read(size=1),
            lambda: reader.readuntil("text"),
            lambda: reader.readexactly(),
            lambda: reader.feed_data(3),
        ]:
            with pytest.raises(TypeError):
                call()
        reader.feed_eof()
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            reader.feed_data(b"more")
        unfinished: Any = motet.StreamReader.__new__(motet.StreamReader)
        with pytest.raises(RuntimeError, match=r"StreamReader.__init__\(\) was not called"):
            unfinished.readline()

    run(main())


def test_streams_outside_of_a_socket() -> None:
    """A pair of sockets whose other end is read by hand."""

    async def main() -> None:
        left, right = socket.socketpair()
        with right:
            reader, writer = await motet.open_connection(sock=left)
            right.sendall(b"ping\n")
            assert await reader.readline() == b"ping\n"
            writer.write(b"pong")
            assert right.recv(10) == b"pong"
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize(
    ("options", "kind"), [([], "asyncio.streams"), (["--native-streams"], "motet._streams")]
)
def test_motet_run_gives_native_streams_if_asked(tmp_path: Path, options: list[str], kind: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio
            import socket
            from asyncio import open_connection

            async def main():
                left, right = socket.socketpair()
                with right:
                    reader, writer = await open_connection(sock=left)
                    print(type(reader).__module__)
                    writer.close()

            asyncio.run(main())
            """
        )
    )
    command = [sys.executable, "-m", "motet", "run", *options, str(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert result.stdout.strip() == kind


def test_each_read_that_is_never_awaited_is_told() -> None:
    async def main() -> None:
        reader = motet.StreamReader()
        for _ in range(5):
            with pytest.warns(RuntimeWarning, match="never awaited"):
                reader.readline()

    motet.run(main())


@pytest.mark.parametrize("way", ["native", "memory-bio"])
def test_tls_takes_over_what_was_read_ahead(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A client may begin its handshake before the server asks for TLS."""
    if way == "memory-bio" and sys.version_info < (3, 14):
        pytest.skip("asyncio's own way does so from Python 3.14 on")
    monkeypatch.setenv("MOTET_TLS", way)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader._buffer:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await motet.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await motet.open_connection(*server.sockets[0].getsockname())
            await writer.start_tls(client_context(), server_hostname="localhost")
            writer.write(b"ping\n")
            assert await reader.read() == b"ping\n"
            writer.close()

    motet.run(asyncio.wait_for(main(), 60))
