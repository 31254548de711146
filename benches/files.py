"""Measure motet's files beside aiofiles, anyio and plain threads in one run.

Each rival runs on asyncio's own loop and on motet's; rounds are interleaved, and each row's figure is the
median of its rounds. Install the rivals first: pip install -r benches/requirements.txt
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import aiofiles
import anyio
import motet

PIECE = 4096
OPEN_FILES = 16
SYNCED = 10

Figures = tuple[float, float]
Job = Callable[[Path, int], Awaitable[int]]


async def _gathered(reads: list[Coroutine[Any, Any, bytes]]) -> int:
    return sum(map(len, await asyncio.gather(*reads)))


def _small_files(read: Callable[[Path], Coroutine[Any, Any, bytes]]) -> Job:
    async def job(folder: Path, count: int) -> int:
        assert await _gathered([read(folder / str(number)) for number in range(count)]) == count * PIECE
        return count

    return job


async def _aiofiles_read(path: Path) -> bytes:
    async with aiofiles.open(path, "rb") as file:
        return await file.read()


async def _motet_open_read(path: Path) -> bytes:
    async with motet.open(path, "rb") as file:
        return await file.read()


async def _anyio_read(path: Path) -> bytes:
    return await anyio.Path(path).read_bytes()


async def _threads_read(path: Path) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(None, path.read_bytes)


def _opened(use: Callable[[Any, int], Awaitable[int]], mode: str) -> dict[str, Job]:
    """The same use of an open file, opened by each library."""

    async def by_motet(folder: Path, count: int) -> int:
        async with motet.open(folder / "large", mode) as file:
            return await use(file, count)

    async def by_aiofiles(folder: Path, count: int) -> int:
        async with aiofiles.open(folder / "large", mode) as file:
            return await use(file, count)

    async def by_anyio(folder: Path, count: int) -> int:
        async with await anyio.open_file(folder / "large", mode) as file:
            return await use(file, count)

    return {"motet": by_motet, "aiofiles": by_aiofiles, "anyio": by_anyio}


async def _read_pieces(file: Any, count: int) -> int:
    pieces = count // 10
    for number in range(pieces):
        await file.seek(number % 64 * 16 * PIECE)
        assert len(await file.read(PIECE)) == PIECE
    return pieces


async def _read_lines(file: Any, count: int) -> int:
    lines = 0
    async for _ in file:
        lines += 1
        if lines == count:
            break
    return lines


def _synced(
    open_file: Callable[..., Any], sync: Callable[[Any], Awaitable[object]]
) -> Callable[[Path, int], Awaitable[int]]:
    async def job(folder: Path, _count: int) -> int:
        async def write(number: int) -> None:
            file = await open_file(folder / f"synced{number}", "wb")
            for _ in range(SYNCED):
                await file.write(b"record\n" * 10)
                await sync(file)
            await (file.aclose() if hasattr(file, "aclose") else file.close())

        await asyncio.gather(*map(write, range(OPEN_FILES)))
        return OPEN_FILES * SYNCED

    return job


async def _flush_and_sync(file: Any) -> None:
    await file.flush()
    await asyncio.get_running_loop().run_in_executor(None, os.fsync, file.fileno())


ROWS: dict[str, dict[str, Job]] = {
    "whole files of 4 KiB, all at once": {
        "motet": _small_files(motet.read_bytes),
        "motet.open": _small_files(_motet_open_read),
        "aiofiles": _small_files(_aiofiles_read),
        "anyio": _small_files(_anyio_read),
        "threads": _small_files(_threads_read),
    },
    "seek and read 4 KiB of an open file, one by one": _opened(_read_pieces, "rb"),
    "lines of a binary file": _opened(_read_lines, "rb"),
    "lines of a text file": _opened(_read_lines, "r"),
    "write and fsync, 16 files at once": {
        "motet": _synced(motet.open, lambda file: file.fsync()),
        "aiofiles": _synced(aiofiles.open, _flush_and_sync),
        "anyio": _synced(anyio.open_file, _flush_and_sync),
    },
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000, help="small files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--folder", help="where the files are made (default: the system's temporary folder)")
    return parser.parse_args()


def _prepare(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / str(number)).write_bytes(bytes(PIECE))
    line = "x" * 63 + "\n"
    (folder / "large").write_text(line * (64 * 16 * PIECE // len(line)))


def _new_motet_loop() -> motet.EventLoop:
    loop = motet.new_event_loop()
    # A round of 10,000 tasks holds the loop longer than any program should: that is no news here.
    loop.blocked_threshold = 0
    return loop


def _run(job: Job, folder: Path, count: int, factory: Callable[[], asyncio.AbstractEventLoop]) -> Figures:
    """Microseconds for one operation: of the clock, and of all processors."""

    async def main() -> Figures:
        began, used = perf_counter(), process_time()
        done = await job(folder, count)
        return (perf_counter() - began) * 1e6 / done, (process_time() - used) * 1e6 / done

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


def _medians(taken: list[Figures]) -> list[float]:
    return [statistics.median(figures) for figures in zip(*taken, strict=True)]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.SelectorEventLoop,
        "motet": _new_motet_loop,
    }
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, {arguments.rounds} rounds; µs each")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        _prepare(folder, arguments.files)
        for row, jobs in ROWS.items():
            ways = [(way, on) for way in jobs for on in loops if on == "motet" or not way.startswith("motet")]
            samples: dict[tuple[str, str], list[Figures]] = {way: [] for way in ways}
            for round_number in range(arguments.rounds + 1):
                for way, on in ways:
                    took = _run(jobs[way], folder, arguments.files, loops[on])
                    # The first round only warms up.
                    if round_number:
                        samples[way, on].append(took)
            print(f"\n{row + ':':48}    time   ratio      CPU   ratio")
            own = _medians(samples[ways[0]])
            for (way, on), taken in samples.items():
                title = way if way.startswith("motet") else f"{way} on {on}"
                figures = zip(_medians(taken), own, strict=True)
                columns = (f"{median:8.2f} {median / best:6.1f}x" for median, best in figures)
                print(f"  {title:46}", *columns)


if __name__ == "__main__":
    main()
