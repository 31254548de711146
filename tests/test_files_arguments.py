# ruff: noqa: ASYNC230, the built-in files that they are compared with
"""What open files refuse, and in which words: the built-in's."""

from __future__ import annotations

import array
import gc
import inspect
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop

CONTENT = b"one\ntwo\nthree\n"


class Two:
    """A number that is not an int."""

    def __index__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return "Two()"


LENGTHS = [(), (1.5,), ("x",), (None,), (True,), (-2,), (0,), (2,), (1 << 70,)]
SIZES = [*LENGTHS, (Two(),)]
PLACES = [(1.5,), ("x",), (None,), (True,), (Two(),), (-1,), (1 << 70,)]
WHENCES = [(0, 7), (0, -1), (0, 1.5), (0, "x"), (0, None), (0, True), (0, Two()), (0, 1 << 70)]
ROOMS = [("s",), (b"bytes",), (3,), (None,), (["x"],), (memoryview(bytearray(4))[::2],)]
DATA: list[tuple[Any, ...]] = [*ROOMS, (bytearray(b"data"),), (array.array("i", [1, 2]),), ("",), (b"",)]
CALLS: dict[str, list[Any]] = {
    "read": SIZES,
    "read1": SIZES,
    "peek": SIZES,
    "readline": SIZES,
    "readlines": SIZES,
    "readall": [()],
    "truncate": LENGTHS,
    "readinto": [*ROOMS, (bytearray(4),), (array.array("i", [1]),)],
    "readinto1": [*ROOMS, (bytearray(4),), (array.array("i", [1]),)],
    "write": DATA,
    "writelines": [*DATA, ([],), (["x"],), ([b"x"],)],
    "seek": [*PLACES, *WHENCES],
    **{call: [()] for call in ("tell", "flush", "fileno", "isatty", "readable", "writable", "seekable")},
}
KINDS = [("rb", -1), ("wb", -1), ("r+b", -1), ("rb", 0), ("wb", 0), ("r", -1), ("w", -1), ("r+", -1)]


async def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, awaited if need be, or the type and the text of its error."""
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        return type(error), str(error)


def may_differ(mode: str, call: str, arguments: tuple[Any, ...], expected: Any) -> bool:
    """Where a built-in file lacks a method, does not know None, or has the system refuse to read."""
    text_by_none = "b" not in mode and (call, arguments) == ("readline", (None,))
    return expected[:1] == (AttributeError,) or text_by_none or (mode, call) == ("wb", "readall")


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize(("mode", "buffering"), KINDS)
def test_files_refuse_what_builtin_ones_refuse(
    make_loop: MakeLoop, tmp_path: Path, mode: str, buffering: int, closed: bool
) -> None:
    async def compare(call: str, arguments: tuple[Any, ...]) -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        for path in (ours, theirs):
            path.write_bytes(CONTENT)
        encoding = None if "b" in mode else "utf-8"
        async with motet.open(ours, mode, buffering, encoding) as file:
            with open(theirs, mode, buffering, encoding) as other:
                if closed:
                    await file.close()
                    other.close()
                expected: Any = await outcome(lambda: getattr(other, call)(*arguments))
                expected = expected if isinstance(expected, tuple) else (expected,)
                if call == "fileno" and not closed:
                    expected = (file.fileno(),)
                if may_differ(mode, call, arguments, expected):
                    return
                result = await outcome(lambda: getattr(file, call)(*arguments))
                result = result if isinstance(result, tuple) else (result,)
                assert result == expected, (call, arguments)
        assert ours.read_bytes() == theirs.read_bytes(), (call, arguments)

    async def main() -> None:
        for call, lists in CALLS.items():
            for arguments in lists:
                await compare(call, arguments)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_buffers_that_cannot_be_written_cost_no_data(make_loop: MakeLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)

    async def main() -> None:
        async with motet.open(path, "rb") as file:
            for call in (file.readinto, file.readinto1):
                with pytest.raises(TypeError, match="read-write bytes-like object, not bytes"):
                    await call(b"room")  # type: ignore[arg-type]
            assert await file.read() == CONTENT

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


@pytest.mark.parametrize("call", ["readline", "__anext__"])
def test_reading_after_writing_is_the_builtin_readline_s(
    make_loop: MakeLoop, tmp_path: Path, call: str
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.write_bytes(CONTENT)

    async def main() -> None:
        async with motet.open(ours, "r+", encoding="utf-8") as file:
            with open(theirs, "r+", encoding="utf-8") as other:
                assert await getattr(file, call)() == other.readline()
                assert await file.write("added\n") == other.write("added\n")
                assert await file.read() == other.read()
                assert await file.tell() == other.tell()
        assert ours.read_bytes() == theirs.read_bytes()

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_open_is_called_open() -> None:
    opening: Any = motet.open
    with pytest.raises(TypeError, match=r"^open\(\) got an unexpected keyword argument 'foo'"):
        opening("file", foo=1)
    with pytest.raises(TypeError, match=r"^open\(\) missing 1 required positional argument: 'file'"):
        opening()


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_forgotten_await(mode: str) -> None:
    with pytest.warns(RuntimeWarning, match=r"^coroutine 'motet\.open' was never awaited"):  # noqa: PT031
        opening: Any = motet.open("file", mode)
        with pytest.raises(AttributeError, match=r"'read' of what motet\.open\(\) returns: await that"):
            opening.read()
        assert not hasattr(opening, "close")
        del opening
        gc.collect()
