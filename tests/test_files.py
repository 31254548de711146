# ruff: noqa: ASYNC230, the built-in files that they are compared with
"""Files, on both loops: they do what the built-in ones do."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import random
import socket
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import motet
import pytest
from conftest import MakeLoop

T = TypeVar("T")

LIMIT = 30


def run(make_loop: MakeLoop, main: Coroutine[Any, Any, T]) -> T:
    with closing(make_loop()) as loop:
        try:
            return loop.run_until_complete(asyncio.wait_for(main, LIMIT))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())


async def outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    """What an awaited call gives, or the type, the number and the text of its error."""
    try:
        return await call()
    except Exception as error:
        return type(error), getattr(error, "errno", None)


def builtin_outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        return type(error), getattr(error, "errno", None)


def random_call(rng: random.Random) -> tuple[str, tuple[Any, ...]]:
    size = rng.choice([-1, 0, 1, 5, 17, 100, 40_000])
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("read", (size,)),
        ("readline", ()),
        ("readline", (rng.choice([-1, 3, 50]),)),
        ("readlines", (rng.choice([-1, 1, 60]),)),
        ("write", (rng.choice([b"", b"x", b"one\ntwo\n", bytes(rng.randrange(50_000))]),)),
        ("writelines", ([b"three\n", b"four"],)),
        ("seek", (rng.randrange(300),)),
        ("seek", (rng.randrange(-20, 20), 1)),
        ("seek", (rng.randrange(-20, 5), 2)),
        ("tell", ()),
        ("flush", ()),
        ("truncate", (rng.choice([None, 0, 10, 500]),)),
    ]
    return rng.choice(calls)


@pytest.mark.parametrize("buffering", [-1, 0, 16])
@pytest.mark.parametrize("mode", ["rb", "r+b", "w+b", "wb", "a+b"])
def test_binary_files_do_what_builtin_ones_do(
    make_loop: MakeLoop, tmp_path: Path, mode: str, buffering: int
) -> None:
    content = b"".join(b"line %d\n" % number for number in range(50)) + b"the end"

    async def main(seed: int) -> None:
        rng = random.Random(f"{mode} {buffering} {seed}")
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        for path in (ours, theirs):
            path.write_bytes(content)
        async with motet.open(ours, mode, buffering) as file:
            with open(theirs, mode, buffering) as other:
                done = []
                for _ in range(60):
                    name, arguments = random_call(rng)
                    result = await outcome(lambda: getattr(file, name)(*arguments))  # noqa: B023
                    expected = builtin_outcome(lambda: getattr(other, name)(*arguments))  # noqa: B023
                    done.append((name, arguments))
                    assert result == expected, done[-5:]
                    if mode == "a+b" and name.startswith("write"):
                        # The built-in file takes its position for where it wrote, which is at the end.
                        assert await file.seek(0, 2) == other.seek(0, 2)
                assert await file.tell() == other.tell()
                assert (file.mode, file.readable(), file.writable()) == (
                    other.mode,
                    other.readable(),
                    other.writable(),
                )
        assert ours.read_bytes() == theirs.read_bytes()

    async def all_seeds() -> None:
        for seed in range(10):
            await main(seed)

    run(make_loop, all_seeds())


TEXT = "první\nzeile\r\nthird\rfourth ✓\n\nlast"


@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_files_do_what_builtin_ones_do(
    make_loop: MakeLoop, tmp_path: Path, encoding: str, newline: str | None
) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("read", (3,)),
        ("readline", ()),
        ("readline", ()),
        ("tell", ()),
        ("readline", (2,)),
        ("read", (4,)),
        ("tell", ()),
        ("write", ("added\n",)),
        ("tell", ()),
        ("seek", (0,)),
        ("readline", ()),
        ("flush", ()),
        ("readlines", ()),
        ("writelines", (["one\n", "two"],)),
        ("seek", (0,)),
        ("read", ()),
        ("truncate", (8,)),
        ("seek", (0, 2)),
        ("seek", (1, 1)),
        ("seek", (0,)),
        ("readlines", (5,)),
    ]

    async def main() -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        for path in (ours, theirs):
            path.write_bytes(TEXT.encode(encoding))
        # The built-in file writes marks of the beginning into the middle of UTF-16.
        mode = "r+" if encoding == "utf-8" else "r"
        async with motet.open(ours, mode, encoding=encoding, newline=newline) as file:
            with open(theirs, mode, encoding=encoding, newline=newline) as other:
                for name, arguments in calls:
                    result = await outcome(lambda: getattr(file, name)(*arguments))  # noqa: B023
                    expected = builtin_outcome(lambda: getattr(other, name)(*arguments))  # noqa: B023
                    assert result == expected, (name, arguments)
                assert (file.mode, file.encoding, file.newlines) == (other.mode, encoding, other.newlines)
        assert ours.read_bytes() == theirs.read_bytes()
        data = TEXT.encode(encoding)
        await motet.write_bytes(ours, data)
        assert (
            await motet.read_text(ours, encoding, newline=newline)
            == io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline).read()
        )

    run(make_loop, main())


def test_lines_and_positions_mix(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{number} ✓\n" for number in range(5_000)), encoding="utf-8")

    async def main() -> None:
        async with motet.open(path, encoding="utf-8") as file, motet.open(path, "rb") as binary:
            with open(path, encoding="utf-8") as other:
                for number in range(3):
                    assert await anext(aiter(file)) == other.readline() == f"{number} ✓\n"
                    assert (await anext(aiter(binary))).decode() == f"{number} ✓\n"
                assert await file.tell() == await binary.tell() == other.tell()
                assert await file.readline() == other.readline()
                assert await file.read(4) == other.read(4)
                assert [line async for line in file] == other.readlines()
                assert await file.readline() == ""
            await binary.seek(0)
            assert len([line async for line in binary]) == 5_000

    run(make_loop, main())


WRONG = [
    {"mode": "q"},
    {"mode": "rw"},
    {"mode": "tb"},
    {"mode": ""},
    {"mode": 3},
    {"mode": "rb", "encoding": "utf-8"},
    {"mode": "rb", "errors": "strict"},
    {"mode": "rb", "newline": ""},
    {"closefd": False},
    {"file": 1.5},
    {"file": "a\0b"},
]
FAILING = [
    {"file": "missing"},
    {"file": b"missing"},
    {"file": Path("missing"), "mode": "rb"},
    {"file": ".", "mode": "rb"},
    {"file": ".", "mode": "wb"},
    {"file": ".", "mode": "r"},
    {"file": "there", "mode": "xb"},
    {"file": "there/below", "mode": "rb"},
    {"file": "there", "mode": "rb", "opener": lambda path, flags: os.open("missing", flags)},
    {"file": "there", "mode": "rb", "opener": lambda path, flags: -1},
    {"file": ".", "mode": "rb", "opener": os.open},
    {"file": 10_000, "mode": "rb"},
    {"file": -1, "mode": "rb"},
    {"file": "there", "buffering": 0},
    {"file": "there", "encoding": "unknown"},
    {"file": "there", "newline": "x"},
]


def described(error: Exception) -> tuple[Any, ...]:
    return type(error), getattr(error, "errno", None), getattr(error, "filename", None), str(error)


@pytest.mark.parametrize("arguments", [*WRONG, *FAILING], ids=str)
def test_errors_are_those_of_the_builtin_open(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("text")
    arguments = {"file": "there", **arguments}
    with pytest.raises(Exception) as expected:  # noqa: PT011, whatever it is
        open(**arguments)  # noqa: SIM115

    async def main() -> None:
        if arguments in [{"file": "there", **wrong} for wrong in WRONG]:
            with pytest.raises(expected.type) as raised:
                motet.open(**arguments)
        else:
            opening = motet.open(**arguments)
            with pytest.raises(expected.type) as raised:
                await opening
        assert described(raised.value) == described(expected.value)

    run(make_loop, main())
    gc.collect()


def test_whole_files(make_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        for size in (0, 1, 4096, 256 * 1024, 256 * 1024 + 1, 3_000_000):
            data = random.Random(size).randbytes(size)
            path = tmp_path / str(size)
            assert await motet.write_bytes(path, memoryview(data)) == size
            assert path.read_bytes() == data
            assert await motet.read_bytes(str(path)) == data
            async with motet.open(os.fsencode(path), "rb") as file:
                assert await file.read(10) == data[:10]
                assert await file.read() == data[10:]
                assert await file.read() == b""
        assert await motet.write_text(tmp_path / "text", "čas\n", encoding="latin2") == 4
        assert (tmp_path / "text").read_bytes() == "čas\n".encode("latin2")
        assert await motet.read_text(tmp_path / "text", encoding="latin2") == "čas\n"
        for call, error in [
            (motet.read_bytes(tmp_path), IsADirectoryError),
            (motet.read_bytes(tmp_path / "missing"), FileNotFoundError),
            (motet.write_bytes(tmp_path, b""), IsADirectoryError),
        ]:
            with pytest.raises(error) as raised:
                await call
            assert raised.value.filename is not None
        with pytest.raises(UnicodeDecodeError):
            await motet.read_text(tmp_path / "text", encoding="utf-8")
        with pytest.raises(TypeError):
            await motet.write_bytes(tmp_path / "text", "text")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await motet.write_text(tmp_path / "text", b"bytes")  # type: ignore[arg-type]
        # The system makes these up while they are read: it does not know their size.
        assert b"Name:" in await motet.read_bytes("/proc/self/status")

    run(make_loop, main())


def test_reading_into_buffers(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(100)))

    async def main() -> None:
        async with motet.open(path, "rb") as file:
            buffer = bytearray(30)
            assert await file.readinto(buffer) == 30
            assert await file.readinto1(memoryview(buffer)[:5]) == 5
            assert bytes(buffer[:6]) == bytes([30, 31, 32, 33, 34, 5])
            assert (await file.peek())[:2] == bytes([35, 36])
            assert await file.read1(2) == bytes([35, 36])
            assert await file.readinto(bytearray(100)) == 63
            assert await file.readinto(buffer) == 0

    run(make_loop, main())


def test_descriptors_are_taken_over_or_not(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        descriptor = os.open(path, os.O_RDWR)
        os.lseek(descriptor, 4, os.SEEK_SET)
        async with motet.open(descriptor, "rb", closefd=False) as file:
            assert (file.name, file.fileno(), file.isatty()) == (descriptor, descriptor, False)
            assert await file.read(2) == b"45"
        os.fstat(descriptor)
        async with motet.open(descriptor, "rb") as file:
            pass
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        async with motet.open(path, "rb", opener=lambda name, flags: os.open(name, flags)) as file:
            assert not os.get_inheritable(file.fileno())
            assert await file.read() == b"0123456789"

    run(make_loop, main())


def test_after_closing(make_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        for mode in ("w+", "w+b"):
            file = await motet.open(tmp_path / "file", mode)
            async with file:
                assert not file.closed
            assert file.closed
            await file.close()
            await file.aclose()
            for call in (file.read, file.readline, file.tell, file.flush, file.fsync, file.truncate):
                with pytest.raises(ValueError, match="closed file"):
                    await call()
            with pytest.raises(ValueError, match="closed file"):
                await file.write("" if mode == "w+" else b"")
            for plain in (file.fileno, file.isatty, file.readable, file.writable, file.seekable):
                with pytest.raises(ValueError, match="closed file"):
                    plain()

    run(make_loop, main())


def test_an_unclosed_file_warns_and_is_written(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main(mode: str) -> None:
        file = await motet.open(path, mode)
        await file.write("data" if mode == "w" else b"data")

    for mode in ("w", "wb"):
        with pytest.warns(ResourceWarning, match="unclosed file"):  # noqa: PT031
            run(make_loop, main(mode))
            gc.collect()
        assert path.read_bytes() == b"data"
    del main
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def test_pipes(make_loop: MakeLoop) -> None:
    async def main() -> None:
        here, there = os.pipe()
        async with motet.open(here, "rb") as reader, motet.open(there, "wb", 0) as writer:
            assert not reader.seekable()
            waiting = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0.01)
            assert await writer.write(b"one\ntw") == 6
            assert await waiting == b"one\n"
            waiting = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            # What the cancelled call was waiting for is not lost.
            await writer.write(b"o\nthree")
            assert await reader.readline() == b"two\n"
            with pytest.raises(OSError, match=os.strerror(errno.ESPIPE)):
                await reader.tell()
            with pytest.raises(io.UnsupportedOperation):
                await reader.seek(0)
            await writer.close()
            assert await reader.read() == b"three"

    run(make_loop, main())


def test_calls_of_several_tasks_take_turns(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        for mode, pieces in (("w", [f"{number:07}\n" for number in range(300)]),):
            async with motet.open(path, mode, buffering=16) as file:
                await asyncio.gather(*(file.write(piece) for piece in pieces))
            assert path.read_text() == "".join(pieces)
        async with motet.open(path, "rb", buffering=0) as file:
            read = await asyncio.gather(*(file.read(8) for _ in range(301)))
        assert b"".join(read) == path.read_bytes()
        async with motet.open(path, "wb", buffering=16) as file:
            await asyncio.gather(*(file.write(piece.encode()) for piece in pieces))
        assert path.read_text() == "".join(pieces)

    run(make_loop, main())


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_cancelled_reads_read_nothing(make_loop: MakeLoop, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    content = b"".join(b"%06d\n" % number for number in range(60_000))
    path.write_bytes(content)

    async def main() -> None:
        rng = random.Random(1)
        async with motet.open(path, mode) as file:
            pieces = []
            while True:
                calls: list[Callable[[], Awaitable[Any]]] = [
                    lambda: file.read(10_000),
                    lambda: file.readline(),
                    lambda: file.readlines(20_000),
                ]
                task = asyncio.ensure_future(rng.choice(calls)())
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                if rng.random() < 0.5 and task.cancel():
                    try:
                        read = await task
                    except asyncio.CancelledError:
                        continue
                else:
                    read = await task
                if not read:
                    break
                pieces.extend(read if isinstance(read, list) else [read])
        assert pieces[0][:0].join(pieces) == (content if mode == "rb" else content.decode())

    run(make_loop, main())


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_cancelled_writes_are_whole_or_not_there(make_loop: MakeLoop, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        rng = random.Random(2)
        written = []
        async with motet.open(path, mode) as file:
            for number in range(200):
                line = b"%06d " % number * rng.choice([1, 1000, 10_000]) + b"\n"
                task = asyncio.ensure_future(file.write(line if mode == "wb" else line.decode()))
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                cancelled = number % 2 and task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    assert cancelled
                else:
                    written.append(line)
        lines = path.read_bytes().splitlines(keepends=True)
        for line in lines:
            assert line == line[:7] * (len(line) // 7) + b"\n"
        assert [line for line in lines if line in set(written)] == written

    run(make_loop, main())


def test_closing_goes_on_when_it_is_cancelled(make_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        for mode, data in (("w", "x" * 100_000), ("wb", b"x" * 20_000)):
            file = await motet.open(tmp_path / mode, mode)
            await file.write(data)  # type: ignore[arg-type]
            task = asyncio.ensure_future(file.close())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await file.close()
            assert (tmp_path / mode).stat().st_size == len(data)

    run(make_loop, main())


def test_errors_of_writing_are_not_lost(make_loop: MakeLoop) -> None:
    async def main() -> None:
        for mode, data in (("w", "x"), ("wb", b"x")):
            file = await motet.open("/dev/full", mode)
            await file.write(data)  # type: ignore[arg-type]
            for call in (file.flush, file.close):
                with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                    await call()
            assert file.closed

    run(make_loop, main())


def test_sockets_are_files_too(make_loop: MakeLoop) -> None:
    async def main() -> None:
        here, there = socket.socketpair()
        with here, there:
            async with motet.open(here.fileno(), "rb", closefd=False) as file:
                there.sendall(b"line\n")
                assert await file.readline() == b"line\n"

    run(make_loop, main())
