"""Files on motet's loop: the ring and the threads, and requests whose loop or process goes."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from contextlib import closing
from pathlib import Path

import motet
import pytest
from conftest import RunProgram

LIMIT = 30


def ring_is_allowed() -> bool:
    async def main() -> object:
        await motet.read_bytes("/proc/self/stat")
        return asyncio.get_running_loop().statistics()["files"]  # type: ignore[attr-defined]

    return motet.run(main()) == "io_uring"


needs_ring = pytest.mark.skipif(not ring_is_allowed(), reason="io_uring is not allowed here")


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


USE = """
    import asyncio, os, sys, motet

    async def use(path):
        async with motet.open(path, "w+b") as file:
            for number in range(100):
                await file.write(b"%05d\\n" % number)
                if number % 10 == 0:
                    await file.fsync()
            await file.seek(0)
            assert await file.read() == b"".join(b"%05d\\n" % number for number in range(100))
        return asyncio.get_running_loop().statistics()["files"]
"""


@pytest.mark.parametrize("means", ["threads", pytest.param("io_uring", marks=needs_ring)])
def test_the_environment_says_by_which_means(
    run_program: RunProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, means: str
) -> None:
    monkeypatch.setenv("MOTET_FILES", means)
    ended = run_program(USE + "    print(motet.run(use(sys.argv[1])))", str(tmp_path / "file"))
    assert (ended.stdout, ended.stderr) == (f"{means}\n", "")


def test_a_wrong_word_in_the_environment(
    run_program: RunProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTET_FILES", "both")
    ended = run_program(USE + "    print(motet.run(use(sys.argv[1])))", str(tmp_path / "file"))
    assert ended.stderr.endswith(
        "RuntimeError: MOTET_FILES: it must be 'io_uring' or 'threads', not 'both'\n"
    )


# What containers do: a filter of system calls lets io_uring_setup fail.
FORBID = """
    import ctypes, struct

    def forbid(number, error):
        program = b"".join(struct.pack("HBBI", *step) for step in [
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50000 | error), (0x06, 0, 0, 0x7FFF0000),
        ])
        kept = ctypes.create_string_buffer(program)
        filter = struct.pack("HxxxxxxP", 4, ctypes.addressof(kept))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.create_string_buffer(filter)) == 0

    forbid({number}, {error})
"""
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER = 425, 426, 427


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (IO_URING_SETUP, errno.ENOSYS),
        (IO_URING_SETUP, errno.EPERM),
        (IO_URING_SETUP, errno.ENOMEM),
        (IO_URING_ENTER, errno.EPERM),
        (IO_URING_REGISTER, errno.EPERM),
    ],
)
def test_threads_where_there_is_no_ring(
    run_program: RunProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: int
) -> None:
    program = USE + FORBID.format(number=number, error=error) + "    print(motet.run(use(sys.argv[1])))"
    ended = run_program(program, str(tmp_path / "file"))
    assert (ended.stdout, ended.stderr) == ("threads\n", "")
    monkeypatch.setenv("MOTET_FILES", "io_uring")
    ended = run_program(program, str(tmp_path / "file"))
    assert "RuntimeError: MOTET_FILES: io_uring cannot be had here" in ended.stderr


def test_a_loop_without_descriptors_left(run_program: RunProgram, tmp_path: Path) -> None:
    ended = run_program(
        USE
        + """
    import resource, time

    async def main():
        await motet.read_bytes(__file__ if "__file__" in globals() else sys.executable)

    async def without(path):
        kept = []
        try:
            while True:
                kept.append(os.open(path, os.O_RDONLY))
        except OSError:
            pass
        try:
            await motet.read_bytes(path)
        except OSError as error:
            print(error.errno, error.filename == path)
        os.close(kept.pop())
        assert await motet.read_bytes(path) == b"data"
        print(asyncio.get_running_loop().statistics()["files"])

    path = sys.argv[1]
    with open(path, "wb") as file:
        file.write(b"data")
    motet.run(main())
    # A thread may still have the first loop's waker in hand.
    while "anon_inode:[eventfd]" in [os.path.realpath(f"/proc/self/fd/{name}").rpartition("/")[2]
                                     for name in os.listdir("/proc/self/fd")]:
        time.sleep(0.001)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    motet.run(without(path))
    """,
        str(tmp_path / "file"),
    )
    assert (ended.stdout, ended.stderr) == (f"{errno.EMFILE} True\nthreads\n", "")


def test_statistics_say_nothing_before_the_first_file() -> None:
    with closing(motet.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        assert loop.statistics()["files"] is None


def test_many_requests_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        paths = [tmp_path / str(number) for number in range(500)]
        contents = [b"%d" % number * 100 for number in range(500)]
        counts = await asyncio.gather(*map(motet.write_bytes, paths, contents))
        assert counts == list(map(len, contents))
        assert await asyncio.gather(*map(motet.read_bytes, paths)) == contents
        files = await asyncio.gather(*(motet.open(path, "r+b") for path in paths))
        # More than the ring takes at once.
        assert await asyncio.gather(*(file.read() for file in files)) == contents
        await asyncio.gather(*(file.write(b"end") for file in files))
        await asyncio.gather(*(file.fsync() for file in files))
        await asyncio.gather(*(file.seek(0) for file in files))
        assert await asyncio.gather(*(file.read(1000) for file in files)) == [
            content + b"end" for content in contents
        ]
        await asyncio.gather(*(file.close() for file in files))

    motet.run(asyncio.wait_for(main(), LIMIT))


def test_threads_that_are_blocked_do_not_keep_others_waiting(tmp_path: Path) -> None:
    fifos = [tmp_path / f"fifo{number}" for number in range(20)]
    for fifo in fifos:
        os.mkfifo(fifo)

    async def main() -> None:
        # Each blocks a thread until somebody opens the other end.
        reading = [asyncio.ensure_future(motet.read_bytes(fifo)) for fifo in fifos]
        await asyncio.sleep(0)
        written = await asyncio.gather(*(motet.write_bytes(fifo, b"through") for fifo in fifos))
        assert written == [7] * 20
        assert await asyncio.gather(*reading) == [b"through"] * 20

    motet.run(asyncio.wait_for(main(), LIMIT))


def test_cancelled_calls_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        await motet.read_bytes(path)
        async with motet.open(path, "rb") as file:
            await file.read(1)
        before = open_descriptors()
        for turns in range(6):
            calls = [
                asyncio.ensure_future(call)
                for _ in range(20)
                for call in (
                    motet.read_bytes(path),
                    motet.write_bytes(tmp_path / "other", b"data"),
                    motet.open(path, "rb")._opening,
                    motet.open(path, "r")._opening,
                    motet.open(path, "rb", opener=os.open)._opening,
                )
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            for result in ended:
                if isinstance(result, motet.AsyncFile):
                    await result.close()
        stuck = asyncio.ensure_future(motet.read_bytes(fifo))
        await asyncio.sleep(0.01)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        os.close(os.open(fifo, os.O_WRONLY))
        while open_descriptors() != before:  # noqa: ASYNC110, nobody tells of it
            await asyncio.sleep(0.001)

    motet.run(asyncio.wait_for(main(), LIMIT))
    gc.collect()


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_loop_is_closed_with_requests_under_way(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    # Opens what is opened once in a process.
    motet.run(motet.read_bytes(path))
    before = open_descriptors()

    async def main() -> list[asyncio.Future[object]]:
        loop = asyncio.get_running_loop()
        raw = motet._motet.File(os.open(path, os.O_RDWR), True)
        assert isinstance(loop, motet.EventLoop)
        requests: list[asyncio.Future[object]] = []
        for _ in range(50):
            requests += [
                motet._motet._read_file(loop, path),
                raw.sync(loop),
                raw.write(loop, b"data" * 1000),
                raw.read(loop, 4096),
                raw.read_rest(loop),
            ]
        for _ in range(turns):
            await asyncio.sleep(0)
        return requests

    with closing(motet.new_event_loop()) as loop:
        requests = loop.run_until_complete(main())
    del requests, loop
    gc.collect()
    for _ in range(LIMIT * 1000):
        if open_descriptors() <= before:
            break
        threading.Event().wait(0.001)
    assert open_descriptors() <= before


def test_a_closed_loop_takes_no_requests(tmp_path: Path) -> None:
    loop = motet.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        motet._motet._read_file(loop, tmp_path)


def test_a_child_has_threads_and_a_ring_of_its_own(run_program: RunProgram, tmp_path: Path) -> None:
    ended = run_program(
        USE
        + """
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    path = sys.argv[1]

    async def main():
        async with motet.open(path, "w+b") as file:
            await file.write(b"parent")
            await file.fsync()
            busy = asyncio.ensure_future(motet.read_bytes(path + ".fifo"))
            await asyncio.sleep(0.01)
            process = os.fork()
            if process == 0:
                assert motet.run(use(path + ".child"))
                os._exit(7)
            _, status = await asyncio.to_thread(os.waitpid, process, 0)
            with open(path + ".fifo", "wb") as fifo:
                fifo.write(b"still here")
            await file.seek(0)
            print(os.waitstatus_to_exitcode(status), await file.read(), await busy)

    os.mkfifo(path + ".fifo")
    motet.run(main())
    """,
        str(tmp_path / "file"),
    )
    assert ended.stdout == "7 b'parent' b'still here'\n", ended.stderr


def test_audit_events(run_program: RunProgram, tmp_path: Path) -> None:
    ended = run_program(
        USE
        + """
    seen = []

    def hook(event, arguments):
        if event == "open" and arguments[0] == sys.argv[1]:
            seen.append(arguments[1])

    async def main():
        await motet.write_bytes(sys.argv[1], b"")
        await motet.read_bytes(sys.argv[1])
        async with motet.open(sys.argv[1], "rb"):
            pass

    sys.addaudithook(hook)
    motet.run(main())
    print(seen)
    """,
        str(tmp_path / "file"),
    )
    assert ended.stdout == "['w', 'r', 'r']\n", ended.stderr


def test_the_interpreter_ends_with_requests_under_way(run_program: RunProgram, tmp_path: Path) -> None:
    for leave in ("pass", "sys.exit(0)", "loop.close()", "os.kill(os.getpid(), 2)"):
        ended = run_program(
            USE
            + f"""
    import warnings

    warnings.simplefilter("ignore")

    async def main(path):
        for _ in range(200):
            asyncio.ensure_future(use(path + str(_)))
            asyncio.ensure_future(motet.read_bytes(path))
        for _ in range(3):
            await asyncio.sleep(0)

    path = sys.argv[1]
    os.mkfifo(path)
    loop = motet.new_event_loop()
    try:
        loop.run_until_complete(main(path))
        {leave}
    except KeyboardInterrupt:
        pass
    finally:
        os.unlink(path)
    """,
            str(tmp_path / "file"),
            timeout=LIMIT,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        assert "panicked" not in ended.stderr
