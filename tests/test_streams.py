"""Native streams held against asyncio's own: what is read, what is raised, and who is woken."""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio import streams
from collections.abc import Awaitable
from typing import Any

import motet
import pytest
from stream_helpers import connected, echo, run

STOCK, NATIVE = streams, motet


@pytest.fixture(params=[STOCK, NATIVE], ids=["stock", "native"])
def library(request: pytest.FixtureRequest) -> Any:
    """Where the stream functions and classes come from."""
    return request.param


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
