"""Subprocesses: `asyncio.create_subprocess_…` and the transports below."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import MakeLoop, RunProgram

LIMIT = 60.0

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's children and descriptors")

Run = Callable[[Any], Any]


@pytest.fixture
def run(make_loop: MakeLoop) -> Iterator[Run]:
    """Runs a coroutine on a loop of either make."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        yield lambda main: runner.run(asyncio.wait_for(main, LIMIT))


@pytest.fixture(params=[True, False], ids=["pidfd", "thread"])
def run_either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine on motet's loop, which waits for children by descriptor or by thread."""
    if not request.param:
        monkeypatch.setattr(os, "pidfd_open", refuse_descriptor)
    return lambda main: motet.run(asyncio.wait_for(main, LIMIT))


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Each test leaves no child behind, dead or alive, and no descriptor."""
    # What the process opens once is opened by now.
    motet.run(asyncio.sleep(0))
    descriptors = set(os.listdir("/proc/self/fd"))
    children = children_of_this_process()
    yield
    gc.collect()
    # Servers of other tests may be among them.
    assert children_of_this_process() <= children
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


def children_of_this_process() -> set[int]:
    """The children, dead or alive."""
    children: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        # A thread that has ended since has left its children to another.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children.update(map(int, (thread / "children").read_text().split()))
    return children


def python(source: str) -> tuple[str, str, str]:
    return sys.executable, "-c", source


def refuse_descriptor(pid: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


async def output_of(*command: str, **options: Any) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


def test_input_output_and_status(run: Run) -> None:
    async def main() -> None:
        much = bytes(range(256)) * 4096
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(much) == (much, None)
        assert process.returncode == 0
        shell = await asyncio.create_subprocess_shell(
            "echo out; echo err >&2; exit 7", stdout=PIPE, stderr=PIPE
        )
        assert await shell.communicate() == (b"out\n", b"err\n")
        assert await shell.wait() == 7
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("no such program", stdin=PIPE, stdout=PIPE)
        with pytest.raises(ValueError, match="bufsize must be 0"):
            await asyncio.create_subprocess_exec("true", bufsize=1)

    run(main())


def test_the_childs_surroundings(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        assert await output_of("pwd", cwd=tmp_path) == os.fsencode(f"{tmp_path.resolve()}\n")
        assert await output_of("env", env={"ONLY": "this"}) == b"ONLY=this\n"
        assert await output_of("sh", "-c", "umask", umask=0o27) == b"0027\n"
        read, write = os.pipe()
        os.write(write, b"inherited")
        os.close(write)
        assert await output_of("cat", f"/dev/fd/{read}", pass_fds=[read]) == b"inherited"
        os.close(read)
        groups = python("import os; print(os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid())")
        assert await output_of(*groups) == b"False False\n"
        assert await output_of(*groups, process_group=0) == b"True False\n"
        assert await output_of(*groups, start_new_session=True) == b"True True\n"
        identity = {"user": os.getuid(), "group": os.getgid()}
        if os.getuid() == 0:
            identity = {"user": 1234, "group": 4321}
            identity["extra_groups"] = []  # type: ignore[assignment]
        expected = f"{identity['user']}:{identity['group']}\n".encode()
        assert await output_of("sh", "-c", "echo $(id -u):$(id -g)", **identity) == expected

    run(main())


def test_every_form_of_standard_stream(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        source = tmp_path / "source"
        target = tmp_path / "target"
        source.write_bytes(b"from a file")
        with source.open("rb") as read, target.open("wb") as write:
            process = await asyncio.create_subprocess_exec("cat", stdin=read, stdout=write.fileno())
            assert await process.communicate() == (None, None)
        assert target.read_bytes() == b"from a file"
        both = "echo out; echo err >&2"
        assert await output_of("sh", "-c", both, stderr=STDOUT) == b"out\nerr\n"
        assert await output_of("sh", "-c", both, stdin=DEVNULL, stderr=DEVNULL) == b"out\n"

    run(main())


def test_signals(run: Run) -> None:
    async def main() -> None:
        for send, number in (
            (asyncio.subprocess.Process.kill, signal.SIGKILL),
            (asyncio.subprocess.Process.terminate, signal.SIGTERM),
            (lambda process: process.send_signal(signal.SIGHUP), signal.SIGHUP),
        ):
            process = await asyncio.create_subprocess_exec("sleep", "1000")
            send(process)
            assert await process.wait() == -number
            with pytest.raises(ProcessLookupError):
                send(process)

    run(main())


class Protocol(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append(("made",))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append(("data", fd, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.events.append(("pipe lost", fd))

    def process_exited(self) -> None:
        self.events.append(("exited",))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", exc))
        self.lost.set_result(None)


def test_what_a_protocol_hears(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            Protocol, "sh", "-c", "echo out; echo err >&2", stdin=None
        )
        assert protocol.events[0] == ("made",)
        assert transport.get_pid() == transport.get_extra_info("subprocess").pid
        assert transport.get_pipe_transport(0) is None
        await protocol.lost
        first, *between, last = protocol.events
        assert (first, last) == (("made",), ("lost", None))
        expected = [
            ("data", 1, b"out\n"),
            ("data", 2, b"err\n"),
            ("pipe lost", 1),
            ("pipe lost", 2),
            ("exited",),
        ]
        assert sorted(between, key=repr) == sorted(expected, key=repr)
        for fd, data in ((1, b"out\n"), (2, b"err\n")):
            assert between.index(("data", fd, data)) < between.index(("pipe lost", fd))
        assert transport.get_returncode() == 0
        transport.close()

    run(main())


def test_close_kills(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Protocol, "cat")
        assert transport.get_returncode() is None
        transport.close()
        transport.close()
        assert transport.is_closing()
        await protocol.lost
        assert transport.get_returncode() == -signal.SIGKILL
        assert protocol.events.count(("exited",)) == 1

    run(main())


def test_an_unclosed_transport_warns_and_kills() -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "1000")
        return transport.get_extra_info("subprocess")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process = motet.run(main())
        gc.collect()
    texts = [str(warning.message) for warning in caught]
    assert sum("unclosed transport <SubprocessTransport" in text for text in texts) == 1
    assert process.wait(LIMIT) == -signal.SIGKILL


def test_cancelled_waits_can_be_repeated(run_either_way: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "1000", stdout=PIPE)
        for wait in (process.wait, process.stdout.read, process.communicate):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.01)
        process.kill()
        assert await process.communicate() == (b"", None)
        assert await asyncio.gather(process.wait(), process.wait()) == [-signal.SIGKILL] * 2

    run_either_way(main())


def test_starting_does_not_block_the_loop() -> None:
    async def main() -> None:
        read, write = os.pipe()

        def wait_for_the_loop() -> None:
            os.read(read, 1)

        starting = asyncio.create_task(output_of("echo", "started", preexec_fn=wait_for_the_loop))
        await asyncio.sleep(0.01)
        assert not starting.done()
        os.write(write, b".")
        assert await starting == b"started\n"
        os.close(read)
        os.close(write)

    motet.run(asyncio.wait_for(main(), LIMIT))


def test_a_child_whose_start_was_cancelled_is_ended() -> None:
    started_read, started_write = os.pipe()
    go_read, go_write = os.pipe()

    def wait_for_the_loop() -> None:
        os.write(started_write, b".")
        os.read(go_read, 1)

    async def main() -> None:
        starting = asyncio.create_task(output_of("sleep", "1000", preexec_fn=wait_for_the_loop))
        await asyncio.to_thread(os.read, started_read, 1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    others = children_of_this_process()
    motet.run(asyncio.wait_for(main(), LIMIT))
    os.write(go_write, b".")
    deadline = time.monotonic() + LIMIT
    while not children_of_this_process() <= others:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for descriptor in (started_read, started_write, go_read, go_write):
        os.close(descriptor)


def test_no_status_is_lost_between_loops_and_threads(run_either_way: Run) -> None:
    async def exit_with(status: int) -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {status}")
        assert await process.wait() == status

    async def main() -> None:
        await asyncio.gather(*map(exit_with, range(20)))

    def elsewhere(number: int) -> None:
        if number % 2:
            motet.run(main())
        else:
            for status in range(20):
                assert subprocess.run(["sh", "-c", f"exit {status}"], check=False).returncode == status

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(elsewhere, number) for number in range(4)]
        run_either_way(main())
        for other in others:
            other.result()


def test_a_status_taken_by_the_popen_object_is_known(run_either_way: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(Protocol, "cat")
        waiting = threading.Thread(target=transport.get_extra_info("subprocess").wait)
        waiting.start()
        transport.get_pipe_transport(0).close()
        await protocol.lost
        assert transport.get_returncode() == 0
        waiting.join()
        transport.close()

    run_either_way(main())


def take_status(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED)


def test_a_status_taken_by_others_is_reported_as_unknown(
    run_either_way: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec("cat", stdin=read)
        os.close(read)
        os.close(write)
        take_status(process.pid)
        assert await process.wait() == 255

    with caplog.at_level(logging.WARNING):
        run_either_way(main())
    assert "exit status already read: will report returncode 255" in caplog.text


TRACER = """
import ctypes, sys
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), 0, 0)
print(ctypes.get_errno() if failed else 0, flush=True)
sys.stdin.read()
"""


def test_a_traced_child_ends_once_its_tracer_lets_go(run_either_way: Run) -> None:
    async def main() -> None:
        traced = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        tracer = await asyncio.create_subprocess_exec(
            *python(TRACER), str(traced.pid), stdin=PIPE, stdout=PIPE
        )
        refused = int(await tracer.stdout.readline())
        traced.stdin.close()
        if not refused:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(traced.wait(), 0.1)
        tracer.stdin.close()
        assert await asyncio.gather(traced.wait(), tracer.wait()) == [0, 0]
        if refused:
            pytest.skip("this system lets nobody trace")

    run_either_way(main())


def test_the_end_of_a_child_is_told_while_its_children_hold_its_pipes(run_either_way: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("sleep 1000 & echo $!", stdout=PIPE)
        grandchild = int(await process.stdout.readline())
        assert await process.wait() == 0
        os.kill(grandchild, signal.SIGKILL)
        assert await process.stdout.read() == b""

    run_either_way(main())


def test_counts() -> None:
    async def main() -> None:
        await asyncio.gather(*(output_of("true") for _ in range(3)))
        statistics = asyncio.get_running_loop().statistics()  # type: ignore[attr-defined]
        assert statistics["processes_started"] == 3

    motet.run(main())


def test_at_the_interpreters_exit(run_program: RunProgram) -> None:
    program = """
        import asyncio, atexit, motet

        async def main():
            process = await asyncio.create_subprocess_exec("echo", "started at the end")
            assert await process.wait() == 0

        atexit.register(lambda: motet.run(main()))
        motet.run(main())
    """
    result = run_program(program)
    assert (result.stdout, result.stderr) == ("started at the end\n" * 2, "")
