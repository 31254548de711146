"""Native streams, held against asyncio's own: what is read and raised, who is woken, what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import weakref
from asyncio import streams
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import motet
import pytest

LIMIT = 60


STOCK, NATIVE = streams, motet


@pytest.fixture(params=[STOCK, NATIVE], ids=["stock", "native"])
def library(request: pytest.FixtureRequest) -> Any:
    """Where the stream functions and classes come from."""
    return request.param


def run(main: Awaitable[Any]) -> Any:
    """Runs on motet's loop."""

    async def within() -> Any:
        return await asyncio.wait_for(main, LIMIT)

    with asyncio.Runner(loop_factory=motet.new_event_loop) as runner:
        return runner.run(within())


@contextlib.asynccontextmanager
async def connected(
    library: Any, serve: Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's streams, and a server for them."""
    server = await library.start_server(serve, "127.0.0.1", 0, **options)
    async with server:
        reader, writer = await library.open_connection(*server.sockets[0].getsockname(), **options)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


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
PIECES = [b"", b"a", b"\n", b"ab\nc", b"--\r\n", b"x" * 9, b"\r", b"\nb-"]
READS: list[tuple[str, tuple[Any, ...]]] = [
    ("readline", ()),
    ("read", (3,)),
    ("read", (0,)),
    ("read", ()),
    ("readexactly", (4,)),
    ("readexactly", (0,)),
    ("readuntil", (b"\r\n",)),
    ("readuntil", (b"b",)),
]
if sys.version_info >= (3, 13):
    READS += [("readuntil", ((b"\r\n", b"b", b"ab\n"),))]


async def outcome_of(waiting: Awaitable[Any]) -> Any:
    try:
        return await waiting
    except Exception as error:
        return type(error), str(error), getattr(error, "partial", None), getattr(error, "consumed", None)


@pytest.mark.parametrize("limit", [3, 5, 64])
@pytest.mark.parametrize("end", ["eof", "exception"])
def test_reads_end_as_the_stock_readers(limit: int, end: str) -> None:
    async def observe(library: Any, pieces: tuple[bytes, ...], reads: tuple[Any, ...]) -> list[Any]:
        reader = library.StreamReader(limit=limit, loop=asyncio.get_running_loop())
        seen: list[Any] = []
        for piece, (method, arguments) in zip(pieces, reads, strict=True):
            task = asyncio.ensure_future(outcome_of(getattr(reader, method)(*arguments)))
            await asyncio.sleep(0)
            reader.feed_data(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            await asyncio.wait([task])
            seen.append("cancelled" if task.cancelled() else task.result())
            seen.append(bytes(reader._buffer))
        if end == "eof":
            reader.feed_eof()
        else:
            reader.set_exception(ConnectionResetError("gone"))
        for method, arguments in reads:
            seen.append(await outcome_of(getattr(reader, method)(*arguments)))
        return seen

    async def main() -> None:
        chosen = itertools.product(PIECES[1:], READS)
        for piece, read in chosen:
            for others in zip(itertools.permutations(PIECES, 2), itertools.cycle(READS)):
                pieces, other = (piece, *others[0]), others[1]
                # asyncio's reading of everything forgets what it has read when it is cancelled.
                if "read" in {method for method, arguments in (read, other) if not arguments}:
                    continue
                reads = (read, other, read)
                assert await observe(NATIVE, pieces, reads) == await observe(STOCK, pieces, reads), (
                    pieces,
                    reads,
                )

    run(main())


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


def test_a_cancelled_read_loses_nothing(library: Any) -> None:
    async def main() -> None:
        async with connected(library, echo) as (reader, writer):
            for number in range(20):
                read = asyncio.create_task(reader.readline())
                await asyncio.sleep(0)
                writer.write(b"line %d\n" % number)
                # At once, before the data comes, and after it has come: wherever it is then.
                for _ in range(number % 5):
                    await asyncio.sleep(0.001)
                read.cancel()
                try:
                    line = await read
                except asyncio.CancelledError:
                    line = await reader.readline()
                assert line == b"line %d\n" % number

    run(main())


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


def test_two_tasks_that_read_at_once(library: Any) -> None:
    async def main() -> None:
        reader = library.StreamReader(loop=asyncio.get_running_loop())
        for method, arguments, name in [
            ("readline", (), "readuntil"),
            ("readuntil", (b"x",), "readuntil"),
            ("readexactly", (3,), "readexactly"),
            ("read", (), "read"),
        ]:
            first = asyncio.create_task(reader.read(1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError) as caught:
                await getattr(reader, method)(*arguments)
            assert str(caught.value) == (
                f"{name}() called while another coroutine is already waiting for incoming data"
            )
            reader.feed_data(b"1")
            assert await first == b"1"

    run(main())


def test_iteration_over_lines(library: Any) -> None:
    async def main() -> None:
        reader = library.StreamReader(loop=asyncio.get_running_loop())
        reader.feed_data(b"one\ntw")
        lines: list[bytes] = []

        async def collect() -> None:
            async for line in reader:
                lines.append(line)

        collecting = asyncio.create_task(collect())
        await asyncio.sleep(0)
        reader.feed_data(b"o\nthree")
        await asyncio.sleep(0)
        reader.feed_eof()
        await collecting
        assert lines == [b"one\n", b"two\n", b"three"]

    run(main())


def test_a_slow_reader_holds_the_sender_back(library: Any) -> None:
    sent = 8 * 1024 * 1024

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(sent // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
        writer.close()

    async def main() -> None:
        async with connected(library, send, limit=1000) as (reader, _):
            held = 0
            for _ in range(20):
                await asyncio.sleep(0.001)
                held = max(held, len(reader._buffer))  # type: ignore[attr-defined]
            # What is read at once, and what may wait before that.
            assert held <= 256 * 1024 + 2 * 1000
            assert reader._paused  # type: ignore[attr-defined]
            # More than the limits allow can be asked for.
            assert len(await reader.readexactly(sent // 2)) == sent // 2
            assert len(await reader.read()) == sent // 2

    run(main())


def test_drain_waits_while_too_much_is_queued(library: Any) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            while await reader.read(1 << 20):
                pass
            writer.close()

        async with connected(library, swallow) as (_, writer):
            await writer.drain()
            writer.write(b"x" * (16 << 20))
            drains = [asyncio.create_task(writer.drain()) for _ in range(3)]
            await asyncio.sleep(0.01)
            assert not any(drain.done() for drain in drains)
            drains[0].cancel()
            await asyncio.wait(drains[:1])
            assert drains[0].cancelled()
            go.set()
            assert await asyncio.gather(*drains[1:]) == [None, None]

    run(main())


def test_a_lost_connection_wakes_everybody(library: Any) -> None:
    async def main() -> None:
        async with connected(library, echo) as (reader, writer):
            read = asyncio.create_task(reader.readline())
            closed = asyncio.create_task(writer.wait_closed())
            await asyncio.sleep(0)
            error = ConnectionResetError("reset by a test")
            writer.transport.get_protocol().connection_lost(error)
            for task in (read, closed):
                with pytest.raises(ConnectionResetError, match="reset by a test"):
                    await task
            with pytest.raises(ConnectionResetError, match="reset by a test"):
                await writer.drain()
            with pytest.raises(ConnectionResetError, match="reset by a test"):
                await reader.read(1)
            writer.transport.abort()

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


def test_exceptions_of_a_servers_callback(library: Any) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

        async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            raise ZeroDivisionError

        async with connected(library, fail) as (reader, writer):
            writer.write(b"go\n")
            assert await reader.read() == b""
        assert [context["message"] for context in told] == ["Unhandled exception in client_connected_cb"]
        assert isinstance(told[0]["exception"], ZeroDivisionError)
        assert isinstance(told[0]["transport"], asyncio.Transport)

    run(main())


def test_a_plain_function_serves(library: Any) -> None:
    async def main() -> None:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"bye")
            writer.close()

        async with connected(library, serve) as (reader, _):
            assert await reader.read() == b"bye"

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


def test_a_forgotten_stream_that_another_thread_collects(without_collector: None) -> None:
    async def main() -> None:
        left, right = socket.socketpair()
        with right:
            reader, writer = await motet.open_connection(sock=left)
            cycle: list[Any] = [reader, writer]
            cycle.append(cycle)
            del reader, writer, cycle
            right.setblocking(False)
            collecting = asyncio.to_thread(gc.collect)
            with pytest.warns(ResourceWarning, match="unclosed <SocketTransport"):
                await collecting
            assert await asyncio.get_running_loop().sock_recv(right, 1) == b""

    run(main())


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
