"""`motet.map` on worker processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import wait_until
from map_helpers import no_workers_left as no_workers_left
from map_helpers import pytestmark as pytestmark


def square(number: int) -> int:
    return number * number


class Counting:
    """Numbers, and how many were taken."""

    def __init__(self, end: int) -> None:
        self.taken = 0
        self.end = end

    def __iter__(self) -> Iterator[int]:
        for number in range(self.end):
            self.taken += 1
            yield number


def test_results_come_in_order() -> None:
    assert list(motet.map(square, range(50_000), workers=2, on="processes")) == [n * n for n in range(50_000)]


def test_results_as_they_come_are_all_there() -> None:
    found = list(motet.map(square, range(50_000), workers=2, ordered=False, on="processes"))
    assert sorted(found) == [n * n for n in range(50_000)]


def test_results_as_they_come_do_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def wait_if_first(number: int) -> int:
        if number == 0:
            gate.read_text()
        return number

    results = motet.map(wait_if_first, range(20), workers=2, ordered=False, chunk=1, on="processes")
    others = [next(results) for _ in range(19)]
    gate.write_text("go")
    assert sorted(others) == list(range(1, 20))
    assert list(results) == [0]


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_nothing_in_nothing_out(chunk: int | None) -> None:
    assert list(motet.map(square, [], chunk=chunk, on="processes")) == []


def test_several_iterables_end_with_the_shortest() -> None:
    assert list(motet.map(pow, [2, 3, 4], iter([5, 6]), workers=1, on="processes")) == [32, 729]
    assert list(motet.map(max, [1, 5], [2, 4], [3, 3], chunk=2, workers=1, on="processes")) == [3, 5]


def test_functions_that_workers_cannot_import() -> None:
    factor = 3
    assert list(motet.map(lambda number: factor * number, range(5), workers=1, on="processes")) == [
        0,
        3,
        6,
        9,
        12,
    ]


def test_a_large_function_goes_to_the_workers_once() -> None:
    table = bytes(range(256)) * 40_000
    assert list(motet.map(lambda place: table[place], range(1000), workers=2, on="processes")) == list(
        table[:1000]
    )


def test_a_method_of_an_object_as_it_was_when_the_mapping_began() -> None:
    class Shift:
        by = 1

        def shift(self, number: int) -> int:
            return number + self.by

    shift = Shift()
    results = motet.map(shift.shift, range(1000), workers=1, on="processes")
    assert next(results) == 1
    shift.by = 2
    assert list(results) == list(range(2, 1001))


# ---- lazy and bounded ----


def test_nothing_is_taken_before_a_result_is_asked_for() -> None:
    numbers = Counting(10)
    results = motet.map(square, numbers, on="processes")
    assert numbers.taken == 0
    results.close()
    assert numbers.taken == 0


def test_no_more_is_taken_than_the_buffer_holds() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2, buffer=30, on="processes")
    for done in range(1, 500):
        next(results)
        # What is being delivered has left the buffer, a chunk at a time.
        assert numbers.taken <= done + 30 + 30
    results.close()


def test_without_a_buffer_no_more_is_taken_than_some_chunks() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2, chunk=5, on="processes")
    for done in range(1, 500):
        next(results)
        assert numbers.taken <= done + 5 * (4 * 2 + 1)
    results.close()


def test_many_items_take_no_more_memory_than_few(run_program: RunProgram) -> None:
    program = """
        import resource, sys, motet
        def grown(count):
            for _ in motet.map(len, (b"%0500d" % n for n in range(count)), workers=2, on="processes"):
                pass
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown(100_000)
        few = grown(100_000)
        print(grown(500_000) - few)
    """
    done = run_program(program, timeout=110)
    assert done.returncode == 0, done.stderr
    # All of the items would be 250 MB.
    assert int(done.stdout) < 60_000


# ---- ends ----


def test_an_iterator_that_is_dropped_takes_no_more() -> None:
    numbers = Counting(10**9)
    results = motet.map(square, numbers, workers=2, on="processes")
    next(results)
    taken, watched = numbers.taken, weakref.ref(numbers)
    del results, numbers
    gc.collect()
    # Calls that run hold it until they have been stopped.
    wait_until(lambda: watched() is None)
    assert taken < 10**6


def test_closing_stops_the_calls_that_run(tmp_path: Path) -> None:
    def wait_for_ever(number: int) -> int:
        if number:
            (tmp_path / f"{number} {os.getpid()}").touch()
            threading.Event().wait()
        return number

    results = motet.map(wait_for_ever, range(100), workers=2, chunk=1, on="processes")
    next(results)
    while not list(tmp_path.iterdir()):
        pass
    results.close()
    assert list(results) == []
    # The next mapping has workers of its own, or those that were freed.
    assert list(motet.map(square, range(5), workers=2, on="processes")) == [0, 1, 4, 9, 16]


def test_workers_are_used_again_in_the_same_surroundings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def who(_: int) -> int:
        return os.getpid()

    first = set(motet.map(who, range(1), workers=1, on="processes"))
    assert set(motet.map(who, range(1), workers=1, on="processes")) == first
    monkeypatch.setenv("MOTET_TEST_OF_MAP", "there")
    assert set(motet.map(who, range(1), workers=1, on="processes")) != first
    assert list(motet.map(os.getenv, ["MOTET_TEST_OF_MAP"], workers=1, on="processes")) == ["there"]


def test_mappings_within_each_other() -> None:
    pairs = zip(
        motet.map(square, range(500), workers=1, on="processes"),
        motet.map(square, range(500), workers=1, on="processes"),
        strict=True,
    )
    assert all(one == other for one, other in pairs)


def test_an_initializer_runs_in_the_workers() -> None:
    def prepare(word: str) -> None:
        os.environ["MOTET_TEST_OF_MAP"] = word

    found = list(
        motet.map(
            os.getenv,
            ["MOTET_TEST_OF_MAP"] * 10,
            workers=2,
            initializer=prepare,
            initargs=("ready",),
            on="processes",
        )
    )
    assert found == ["ready"] * 10

    def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(BrokenExecutor, match="initializer"):
        list(motet.map(square, range(10), workers=2, initializer=fail, on_error="skip", on="processes"))


def test_the_interpreter_exits_with_iterators_left(run_program: RunProgram) -> None:
    done = run_program(
        """
        import itertools, motet

        async def same(number):
            return number

        left = motet.map(abs, itertools.count(), workers=2, on="processes")
        other = motet.map(same, itertools.count())
        print(next(left), next(other))
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 0\n", "", 0)


def test_ctrl_c_ends_a_mapping_with_its_calls() -> None:
    program = """
        import time, motet

        def wait(number):
            if number:
                time.sleep(600)

        for _ in motet.map(wait, range(4), workers=2, on="processes"):
            print("ready", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert told.rstrip().endswith(b"KeyboardInterrupt")
