"""How programs with executors end: nothing is lost without a word, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, Left, descendants, is_alive, nap, shared_files, wait_until

pytestmark = pytest.mark.thread_unsafe(reason="counts what the process has")

COMMON = textwrap.dedent("""
    import os, sys, threading, time, warnings, motet
    warnings.simplefilter("error", ResourceWarning)

    def write(number):
        time.sleep(0.05)
        os.write(1, b"%d\\n" % number)
""")

ENDS = {
    "a with statement": """
        with motet.Executor("processes", 2) as executor:
            for number in range(4):
                executor.submit(write, number)
    """,
    "no shutdown": """
        executor = motet.Executor("processes", 2)
        for number in range(4):
            executor.submit(write, number)
    """,
    "an executor that nobody knows": """
        def work():
            executor = motet.Executor("processes", 2)
            for number in range(4):
                executor.submit(write, number)
        work()
    """,
    "a shutdown that does not wait": """
        def work():
            executor = motet.Executor("processes", 2)
            for number in range(4):
                executor.submit(write, number)
            executor.shutdown(wait=False)
        work()
    """,
    "sys.exit": """
        executor = motet.Executor("processes", 2)
        for number in range(4):
            executor.submit(write, number)
        sys.exit(0)
    """,
}


@pytest.mark.parametrize("name", ENDS)
def test_what_was_submitted_is_done_before_the_end(run_program: RunProgram, name: str) -> None:
    ended = run_program(COMMON + textwrap.dedent(ENDS[name]))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert sorted(ended.stdout.split()) == ["0", "1", "2", "3"]


def test_the_exit_status_is_the_programs(run_program: RunProgram) -> None:
    ended = run_program(COMMON + "motet.Executor('processes', 1).submit(write, 1)\nsys.exit(5)")
    assert (ended.returncode, ended.stdout) == (5, "1\n")


INTERRUPTED = {
    "in a with statement": """
        with motet.Executor("processes", 2) as executor:
            futures = [executor.submit(time.sleep, 1000) for _ in range(5)]
            while not futures[0].running():
                time.sleep(0.001)
            print("ready", flush=True)
            futures[0].result()
    """,
    "outside of any": """
        executor = motet.Executor("processes", 2)
        futures = [executor.submit(time.sleep, 1000) for _ in range(5)]
        while not futures[0].running():
            time.sleep(0.001)
        print("ready", flush=True)
        futures[0].result()
    """,
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_one_interruption_ends_all(name: str) -> None:
    source = COMMON + textwrap.dedent(INTERRUPTED[name])
    program = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    processes = descendants(program.pid)
    assert len(processes) >= 2
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=LIMIT)
    assert program.returncode == -signal.SIGINT, errors
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    wait_until(lambda: not any(map(is_alive, processes)))


@pytest.mark.parametrize("victims", ["parent", "all"])
def test_nothing_outlives_a_program_that_is_killed(victims: str) -> None:
    source = COMMON + textwrap.dedent("""
    import subprocess
    def work(number):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)"])
    executor = motet.Executor("processes", 2)
    data = motet.empty(1 << 20) if sys.argv[1:] else bytes(1 << 20)
    futures = [executor.submit(work, data) for _ in range(5)]
    while not all(future.running() for future in futures[:2]):
        time.sleep(0.001)
    print("ready", flush=True)
    futures[0].result()
    """)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        # The zygote, two workers, and what these have started.
        wait_until(lambda: len(descendants(program.pid)) >= 5)
        processes = descendants(program.pid)
        killed = {program.pid} if victims == "parent" else {program.pid, *processes}
        for process in killed:
            # Some end at once when another has.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, processes)))
    assert shared_files() == []


def test_a_killed_programs_workers_are_gone_with_its_output() -> None:
    """Whoever reads a program's output to its end, as subprocess.run() does, finds no worker any more."""
    source = """
import motet, os, signal, time
executor = motet.Executor("processes", 4)
for _ in range(4):
    executor.submit(time.sleep, 1000)
print(*executor._processes, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, timeout=LIMIT)
    assert ended.returncode == -signal.SIGKILL
    workers = [int(word) for word in ended.stdout.split()]
    assert len(workers) == 4
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_forked_child_leaves_the_executor_alone(run_program: RunProgram) -> None:
    ended = run_program("""
        import os, sys, threading, warnings, motet
        warnings.simplefilter("ignore", DeprecationWarning)
        executor = motet.Executor("processes", 2)
        going_on = True

        def keep_busy():
            while going_on:
                sum(executor.map(abs, range(50)))

        thread = threading.Thread(target=keep_busy)
        thread.start()
        for number in range(10):
            child = os.fork()
            if child == 0:
                try:
                    executor.submit(int)
                except RuntimeError as error:
                    assert "belongs to process" in str(error), error
                else:
                    os._exit(1)
                with motet.Executor("processes", 1) as own:
                    assert own.submit(pow, number, 2).result(30) == number ** 2
                executor.shutdown()
                del executor
                sys.exit(20 + number)
            _, status = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(status))
        going_on = False
        thread.join()
        print(executor.submit(int).result(30))
    """)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [*map(str, range(20, 30)), "0"], ended.stderr


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import motet

        class Point:
            def __init__(self, x):
                self.x = x

        def move(point):
            return Point(point.x + STEP)

        STEP = 5
        print("once")
        with motet.Executor("processes", 2) as executor:
            moved = executor.submit(move, Point(1)).result(30)
            print(type(moved) is Point, moved.x)
        """)
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=LIMIT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "once\nTrue 6\n", "")


def test_nothing_is_left_of_many_executors() -> None:
    left = Left()
    for number in range(200):
        executor = motet.Executor("processes", 2)
        futures = [executor.submit(pow, n, 2) for n in range(4)]
        if number % 4 == 0:
            executor.shutdown(kill=True)
        elif number % 4 == 1:
            executor.shutdown(wait=False, cancel_futures=True)
        elif number % 4 == 2:
            assert [future.result(LIMIT) for future in futures] == [0, 1, 4, 9]
            executor.shutdown()
        del executor, futures
    left.check()


def test_nothing_is_left_of_an_executor_whose_workers_die() -> None:
    left = Left()
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGABRT):
        with motet.Executor("processes", 2) as executor:
            for _ in range(5):
                future = executor.submit(nap, LIMIT)
                wait_until(future.running)
                for pid in executor._processes:
                    os.kill(pid, how)
                with pytest.raises(motet.WorkerDied):
                    future.result(LIMIT)
    left.check()
