"""The death of a worker costs the one call that it ran, which says so; all others go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import BrokenExecutor, CancelledError, wait
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, append, end, is_alive, nap, nap_deaf, wait_until, warm, zygotes
from motet._executor import processes, zygote_messages

pytestmark = pytest.mark.thread_unsafe(reason="kills processes")


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("exit", 7, "ended with exit code 7"),
        ("kill", -signal.SIGKILL, "was killed by SIGKILL"),
        ("segfault", -signal.SIGSEGV, "was killed by SIGSEGV"),
    ],
)
def test_a_death_is_told_with_its_call_and_its_cause(how: str, code: int, words: str) -> None:
    with motet.Executor("processes", 2) as executor:
        others = [executor.submit(pow, number, 2) for number in range(200)]
        future = executor.options(name="the end").submit(end, how)
        others += [executor.submit(pow, number, 2) for number in range(200, 400)]
        with pytest.raises(motet.WorkerDied, match=words) as caught:
            future.result(LIMIT)
        assert caught.value.call == "the end (end)"
        assert caught.value.exit_code == code
        assert caught.value.largest_memory > 0
        assert "MiB" in str(caught.value)
        assert isinstance(caught.value, BrokenExecutor)
        assert [other.result(LIMIT) for other in others] == [number**2 for number in range(400)]
        assert executor.submit(pow, 3, 2).result(LIMIT) == 9


def test_only_one_call_is_lost_of_those_that_a_worker_was_sent() -> None:
    with motet.Executor("processes", 1) as executor:
        first = executor.submit(nap, 0.2)
        others = [executor.submit(pow, number, 2) for number in range(50)]
        wait_until(first.running)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)
        with pytest.raises(motet.WorkerDied):
            first.result(LIMIT)
        assert [other.result(LIMIT) for other in others] == [number**2 for number in range(50)]


def test_a_call_that_dies_is_tried_again(tmp_path: Path) -> None:
    def work() -> int:
        attempt = append(str(tmp_path / "attempts"), "")
        if attempt < 3:
            end("kill")
        return attempt

    with motet.Executor("processes", 1, retries=2) as executor:
        assert executor.submit(work).result(LIMIT) == 3


def test_a_call_that_takes_three_workers_with_it_is_tried_no_more(tmp_path: Path) -> None:
    def work() -> None:
        append(str(tmp_path / "attempts"), "")
        end("kill")

    with motet.Executor("processes", 2, retries=10) as executor:
        with pytest.raises(motet.WorkerDied):
            executor.submit(work).result(LIMIT)
        assert executor.submit(int).result(LIMIT) == 0
    assert len((tmp_path / "attempts").read_text()) == 3


def test_a_strict_pool_breaks() -> None:
    with motet.Executor("processes", 1, strict=True) as executor:
        first = executor.submit(end, "kill")
        with pytest.raises(motet.WorkerDied):
            first.result(LIMIT)
        with pytest.raises(BrokenExecutor):
            executor.submit(int).result(LIMIT)


def test_a_strict_pool_tells_what_broke_it() -> None:
    with motet.Executor("processes", 2, strict=True) as executor:
        other = executor.submit(nap, LIMIT)
        wait_until(other.running)
        idle = executor.submit(os.getpid).result(LIMIT)
        os.kill(idle, signal.SIGTERM)
        # Its worker is killed, but that is not what happened.
        with pytest.raises(motet.WorkerDied, match="SIGTERM"):
            other.result(LIMIT)
        with pytest.raises(motet.WorkerDied, match="SIGTERM"):
            executor.submit(int).result(LIMIT)


def test_a_strict_pool_that_breaks_ends_each_call_beside_cancelled_ones() -> None:
    with motet.Executor("processes", 1, strict=True) as executor:
        running = executor.submit(nap, LIMIT)
        wait_until(running.running)
        waiting = [executor.submit(nap, LIMIT) for _ in range(50)]
        assert all(future.cancel() for future in waiting[::3])
        os.kill(next(iter(executor._processes)), signal.SIGKILL)
        assert not wait([running, *waiting], LIMIT).not_done
        lost = [future for future in [running, *waiting] if not future.cancelled()]
        assert len(lost) == 1 + 33
        assert all(isinstance(future.exception(), motet.WorkerDied) for future in lost)


def test_a_function_that_cannot_be_loaded_alive_ends_its_own_call_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_to_import.py").write_text(
        "import os\nif os.environ.get('IN_WORKER'): os._exit(9)\ndef work(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import deadly_to_import  # type: ignore[import-not-found]

    monkeypatch.setenv("IN_WORKER", "1")
    with motet.Executor("processes", 1) as executor:
        future = executor.submit(deadly_to_import.work)
        others = [executor.submit(pow, number, 2) for number in range(20)]
        with pytest.raises(motet.WorkerDied, match="exit code 9"):
            future.result(LIMIT)
        assert [other.result(LIMIT) for other in others] == [number**2 for number in range(20)]


def test_workers_that_end_as_they_begin_break_the_pool() -> None:
    with motet.Executor("processes", 2, initializer=os._exit, initargs=(3,)) as executor:
        with pytest.raises(BrokenExecutor, match="exit code 3"):
            executor.submit(int).result(LIMIT)
        with pytest.raises(BrokenExecutor):
            executor.submit(int).result(LIMIT)


def test_a_failing_initializer_breaks_the_pool_and_is_told() -> None:
    with motet.Executor("processes", 2, initializer=int, initargs=("x",)) as executor:
        with pytest.raises(motet.InitializerFailed) as caught:
            executor.submit(int).result(LIMIT)
        assert isinstance(caught.value.__cause__, ValueError)


def test_too_much_memory_ends_a_call() -> None:
    def swell() -> None:
        kept = [b"x" * (8 << 20) for _ in range(100)]
        nap(LIMIT)
        del kept

    with motet.Executor("processes", 1, memory_limit=200 << 20) as executor:
        with pytest.raises(motet.WorkerDied, match="more memory than its limit"):
            executor.submit(swell).result(LIMIT)
        assert executor.submit(int).result(LIMIT) == 0


def test_a_worker_is_replaced_after_its_tasks() -> None:
    with motet.Executor("processes", 1, max_tasks_per_child=3) as executor:
        pids = [executor.submit(os.getpid).result(LIMIT) for _ in range(12)]
    assert len(set(pids)) == 4


def test_the_zygotes_death_costs_what_ran() -> None:
    with motet.Executor("processes", 2) as executor:
        pids = warm(executor, 2)
        running = [executor.submit(nap, LIMIT) for _ in range(2)]
        waiting = [executor.submit(pow, number, 2) for number in range(100)]
        wait_until(lambda: all(future.running() for future in running))
        for zygote in zygotes():
            os.kill(zygote, signal.SIGKILL)
        for future in running:
            with pytest.raises(motet.WorkerDied):
                future.result(LIMIT)
        assert [future.result(LIMIT) for future in waiting] == [number**2 for number in range(100)]
        wait_until(lambda: not any(map(is_alive, pids)))


def test_what_calls_have_started_ends_when_the_zygote_dies(tmp_path: Path) -> None:
    """Its workers die with it by the kernel's word, which says nothing of their children."""

    def start(path: str) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        append(path, str(child.pid))
        child.wait()

    def start_and_leave() -> int:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid

    path = tmp_path / "children"
    with motet.Executor("processes", 2) as executor:
        left = executor.submit(start_and_leave).result(LIMIT)
        running = [executor.submit(start, str(path)) for _ in range(2)]
        wait_until(lambda: path.exists() and len(path.read_text().splitlines()) == 2)
        children = [left, *map(int, path.read_text().split())]
        assert all(map(is_alive, children))
        for zygote in zygotes():
            os.kill(zygote, signal.SIGKILL)
        for future in running:
            with pytest.raises(motet.WorkerDied):
                future.result(LIMIT)
        wait_until(lambda: not any(map(is_alive, children)))
        # Another zygote, another worker.
        assert executor.submit(pow, 3, 2).result(LIMIT) == 9


def test_the_zygotes_death_while_calls_are_submitted(tmp_path: Path) -> None:
    path = str(tmp_path / "lines")
    with motet.Executor("processes", 2) as executor:
        futures = []
        for number in range(600):
            if number % 100 == 50:
                for zygote in zygotes():
                    os.kill(zygote, signal.SIGKILL)
            futures.append(executor.submit(append, path, f"line {number}"))
        wait(futures, LIMIT)
        assert all(future.done() for future in futures)
    lines = (tmp_path / "lines").read_text().splitlines()
    assert len(lines) == len(set(lines)), "a call has run twice"
    for number, future in enumerate(futures):
        error = future.exception()
        assert error is None or isinstance(error, motet.WorkerDied)
        assert error is not None or f"line {number}" in lines


def test_workers_for_whose_descriptors_there_was_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def receive(channel: socket.socket) -> tuple[object, list[int]]:
        message, descriptors = zygote_messages.receive(channel)
        for descriptor in descriptors:
            os.close(descriptor)
        return message, []

    monkeypatch.setattr(processes, "receive", receive)
    with motet.Executor("processes", 1) as executor:
        before = executor.submit(os.getpid).result(LIMIT)
        with pytest.raises(motet.CallTimeout):
            executor.options(timeout=0.1).submit(nap_deaf, LIMIT).result(LIMIT)
        stuck = executor.submit(nap_deaf, LIMIT)
        wait_until(stuck.running)
        assert stuck.cancel(kill=True)
        with pytest.raises(CancelledError):
            stuck.result(LIMIT)
        after = executor.submit(os.getpid).result(LIMIT)
        assert after != before
        for zygote in zygotes():
            os.kill(zygote, signal.SIGKILL)
        wait_until(lambda: not is_alive(after))
        assert executor.submit(os.getpid).result(LIMIT) != after


def test_a_thread_or_worker_that_cannot_be_started(run_program: RunProgram) -> None:
    ended = run_program("""
        import contextlib, os, resource, threading, motet

        @contextlib.contextmanager
        def no_threads():
            def start(self):
                raise RuntimeError("can't start new thread")

            before, threading.Thread.start = threading.Thread.start, start
            yield
            threading.Thread.start = before

        @contextlib.contextmanager
        def no_descriptors():
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
            yield
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

        with motet.Executor("processes", 2) as executor:
            for nothing_more, kind in ((no_threads, RuntimeError), (no_descriptors, OSError)):
                with nothing_more():
                    try:
                        executor.submit(len, b"abc")
                    except kind as error:
                        print(type(error).__name__)
            print(executor.submit(len, b"abc").result(60))
            # With one worker less it takes longer.
            with no_descriptors():
                held = [executor.submit(len, b"abc") for _ in range(4)]
                print([future.result(60) for future in held])
            assert executor.submit(len, b"abc").result(60) == 3
    """)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["RuntimeError", "OSError", "3", "[3, 3, 3, 3]"], ended
