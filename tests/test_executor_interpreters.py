"""Workers with interpreters of their own: what travels, how calls are stopped, and that nothing is left."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, wait_until
from motet._executor import pools

THERE = sys.version_info >= (3, 14)
needs_interpreters = pytest.mark.skipif(not THERE, reason="Python has interpreters since 3.14")
pytestmark = [
    pytest.mark.thread_unsafe(reason="it counts the process's interpreters"),
    pytest.mark.timeout(120),
]


def executor(workers: int = 1, **options: Any) -> motet.Executor:
    return motet.Executor("interpreters", workers, **options)


def interpreters() -> int:
    from concurrent.interpreters import list_all  # type: ignore[import-not-found]

    return len(list_all())


@pytest.mark.skipif(THERE, reason="this Python has interpreters")
def test_older_pythons_are_told_what_to_use() -> None:
    with pytest.raises(NotImplementedError, match=r"needs Python 3\.14 .*on='processes'"):
        executor()


@pytest.mark.parametrize(
    "options",
    [
        {"memory_limit": 1 << 30},
        {"max_tasks_per_child": 3},
        {"strict": True},
        {"preload": ["json"]},
        {"tag_output": True},
        {"threads_per_worker": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_processes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for on='processes'"):
        executor(**options)


@needs_interpreters
def test_functions_travel_by_value() -> None:
    number = 5
    before = interpreters()

    def add(x: int) -> int:
        return x + number

    with executor() as pool:
        assert pool.submit(add, 1).result(LIMIT) == 6
        number = 7
        assert pool.submit(add, 1).result(LIMIT) == 8
        assert pool.submit(lambda *, a: a * 2, a=4).result(LIMIT) == 8
        assert pool.submit(functools.partial(pow, 2), 10).result(LIMIT) == 1024
        assert pool.submit([3, 1].index, 1).result(LIMIT) == 1
        assert pool.submit(os.getpid).result(LIMIT) == os.getpid()
        assert pool.submit(len, b"x" * 5_000_000).result(LIMIT) == 5_000_000
        assert pool.submit(bytes, 5_000_000).result(LIMIT) == bytes(5_000_000)
        assert interpreters() == before + 1
        assert pool.statistics()["interpreters"] == 1
        assert "interpreters" in pool.decision
    assert interpreters() == before


@needs_interpreters
def test_classes_of_a_program_stay_one_class(run_program: RunProgram) -> None:
    program = """
import motet
class Thing:
    def __init__(self, n):
        self.n = n
class Trouble(Exception):
    pass
def fail():
    raise Trouble("on purpose")
with motet.Executor("interpreters", 1) as executor:
    things = [executor.submit(Thing, n).result(60) for n in range(3)]
    print([type(thing) is Thing and thing.n for thing in things])
    error = executor.submit(fail).exception(60)
    print(type(error) is Trouble, error, "in fail" in str(error.__cause__))
"""
    result = run_program(program)
    assert result.stdout.split("\n")[:2] == ["[0, 1, 2]", "True on purpose True"]
    assert result.stderr == ""


@needs_interpreters
def test_a_function_is_loaded_once_and_state_is_the_interpreters_own() -> None:
    seen: list[int] = []

    def note() -> int:
        seen.append(1)
        return len(seen)

    with executor() as pool:
        assert [pool.submit(note).result(LIMIT) for _ in range(3)] == [1, 2, 3]
    assert seen == []


@needs_interpreters
def test_what_cannot_travel_is_an_error_of_the_call() -> None:
    with executor() as pool:
        with pytest.raises(motet.NotShippable, match="lock"):
            pool.submit(print, threading.Lock()).result(LIMIT)
        with pytest.raises(motet.NotShippable, match="lock"):
            pool.submit(threading.Lock).result(LIMIT)
        with pytest.raises(SystemExit):
            pool.submit(sys.exit, 3).result(LIMIT)
        assert pool.submit(int).result(LIMIT) == 0


@needs_interpreters
def test_modules_for_the_main_interpreter_alone_are_named() -> None:
    def load() -> None:
        import motet._motet  # noqa: F401

    with executor() as pool:
        for _ in range(2):
            with pytest.raises(ImportError, match=r"^motet cannot be imported.*on 'processes'"):
                pool.submit(load).result(LIMIT)


@needs_interpreters
def test_initializers_run_in_each_interpreter() -> None:
    def prepare(value: int) -> None:
        sys.prepared = value  # type: ignore[attr-defined]

    def look() -> int:
        value: int = sys.prepared  # type: ignore[attr-defined]
        return value

    with executor(2, initializer=prepare, initargs=(4,)) as pool:
        assert [pool.submit(look).result(LIMIT) for _ in range(4)] == [4] * 4
    assert not hasattr(sys, "prepared")


@needs_interpreters
def test_what_an_initializer_sets_is_there_for_the_calls_of_a_script(run_program: RunProgram) -> None:
    done = run_program("""
        import motet

        state, seen = "none", []

        def begin(value):
            global state
            state = value
            seen.append(value)

        def look():
            return state, seen

        with motet.Executor("interpreters", 1, initializer=begin, initargs=("begun",)) as executor:
            print(executor.submit(look).result(), look())
    """)
    assert (done.stdout, done.stderr) == ("('begun', ['begun']) ('none', [])\n", "")


@needs_interpreters
def test_a_failing_initializer_breaks_the_pool() -> None:
    before = interpreters()
    with executor(2, initializer=divmod, initargs=(1, 0)) as pool:
        with pytest.raises(motet.InitializerFailed) as caught:
            pool.submit(int).result(LIMIT)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(motet.InitializerFailed):
            pool.submit(int).result(LIMIT)
    assert interpreters() == before


def make_spin() -> Callable[[], None]:
    """A call that Python can stop; by value, since this module imports what no interpreter has."""

    def spin() -> None:
        while True:
            pass

    return spin


@needs_interpreters
def test_calls_are_stopped_and_the_interpreter_goes_on() -> None:
    before, spin = interpreters(), make_spin()
    with executor() as pool:
        for _ in range(5):
            with pytest.raises(motet.CallTimeout, match="spin ran longer"):
                pool.options(timeout=0.05).submit(spin).result(LIMIT)
            future = pool.submit(spin)
            wait_until(future.running)
            assert future.cancel(kill=True)
            wait_until(future.cancelled)
            assert pool.submit(pow, 2, 3).result(LIMIT) == 8
        statistics = pool.statistics()
        assert statistics["abandoned"] == 0
        assert statistics["interpreters"] == 1
        with pytest.raises(motet.CallTimeout):
            pool.options(timeout=0.05, retries=2).submit(spin).result(LIMIT)
    assert interpreters() == before


@needs_interpreters
def test_stops_at_any_moment_lose_no_answer() -> None:
    with executor(2) as pool:
        for round_ in range(60):
            futures = [pool.submit(sum, range(200)) for _ in range(6)]
            for future in futures[round_ % 3 :: 2]:
                future.cancel(kill=True)
            # Those that were not to be stopped have their results, whatever happened around them.
            others = [future for future in futures if future not in futures[round_ % 3 :: 2]]
            assert [future.result(LIMIT) for future in others] == [19900] * len(others)
            assert not concurrent.futures.wait(futures, LIMIT).not_done
        assert pool.submit(pow, 2, 3).result(LIMIT) == 8
        assert pool.statistics()["abandoned"] == 0


@needs_interpreters
def test_a_deaf_call_is_abandoned_and_its_interpreter_closed_when_it_ends() -> None:
    before = interpreters()
    reading, writing = os.pipe()
    with executor() as pool:
        with pytest.raises(motet.CallTimeout):
            pool.options(timeout=0.05).submit(os.read, reading, 1).result(LIMIT)
        assert pool.submit(pow, 2, 3).result(LIMIT) == 8
        assert pool.statistics()["abandoned"] == 1
    assert interpreters() == before + 1
    os.write(writing, b"x")
    wait_until(lambda: interpreters() == before)
    os.close(reading)
    os.close(writing)


@needs_interpreters
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("executor.shutdown(wait=False); del executor; sys.exit(3)", 3),
        ("executor.options(timeout=0.05).submit(time.sleep, 3600).exception(); sys.exit(3)", 3),
        ("[executor.submit(time.sleep, 0.3) for _ in range(4)]; del executor; sys.exit(3)", 3),
    ],
    ids=["open", "exit", "shut down", "abandoned", "dropped at work"],
)
def test_programs_end(run_program: RunProgram, end: str, status: int) -> None:
    program = f"""
import sys, time, motet
executor = motet.Executor("interpreters", 2)
print(executor.submit(pow, 2, 3).result(60), flush=True)
{end}
"""
    result = run_program(program)
    assert (result.returncode, result.stdout, result.stderr) == (status, "8\n", "")


@needs_interpreters
def test_a_fork_that_the_child_may_not_survive_is_warned_of(run_program: RunProgram) -> None:
    done = run_program("""
        import motet, os

        def fork():
            child = os.fork()
            if child == 0:
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        with motet.Executor("interpreters", 1) as executor:
            assert executor.submit(abs, -1).result() == 1
            fork()
            assert executor.submit(abs, -2).result() == 2
        print(fork())
    """)
    assert done.stdout == "0\n"
    assert done.stderr.count("RuntimeWarning: the process forks while it has interpreters") == 1


@needs_interpreters
def test_nothing_is_left_of_executors() -> None:
    before = interpreters(), len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        with executor(2) as pool:
            assert list(pool.map(abs, range(20))) == list(range(20))

    def now() -> bool:
        after = interpreters(), len(os.listdir("/proc/self/fd")), threading.active_count()
        return all(a <= b for a, b in zip(after, before, strict=True))

    wait_until(now)


@needs_interpreters
def test_mappings() -> None:
    factor = 3
    try:
        results = motet.map(lambda n: n * factor, range(3000), on="interpreters", workers=2)
        assert list(results) == [3 * n for n in range(3000)]
        mapped = motet.map(lambda n: 6 // n, [1, 0, 3], on="interpreters", workers=2, on_error="return")
        first, second, third = mapped
        assert (first, third) == (6, 2)
        assert isinstance(second, ZeroDivisionError)
        with pytest.raises(motet.CallTimeout):
            list(motet.map(time.sleep, [0, 5], on="interpreters", workers=1, timeout=0.2))
    finally:
        pools.end_all()
