"""Shared memory that is used up: who keeps what he was given holds up nobody, and nobody waits in vain."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RunProgram

pytest.importorskip("numpy")

# What the programs begin with. Each is a process of its own, since the limit is a process's.
BEGIN = """
import os, threading, time
import motet, numpy

MIB = 1 << 20
motet.set_arena_limit(8 * MIB)
kept = []

def keep(array):
    kept.append(array)
    return [int(other[-1]) for other in kept]

def filled(value, size=MIB):
    return numpy.full(size, value, "uint8")

def born(value, size=MIB):
    array = motet.empty(size, "uint8")
    array[:] = value
    return array

"""


def run(run_program: RunProgram, program: str) -> None:
    """Runs it; it must come to its end."""
    ended = run_program(BEGIN + program + "\nprint('done')\n")
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


@pytest.mark.parametrize("make", ["filled", "born"])
@pytest.mark.parametrize("size", ["MIB", "5 * MIB"])
def test_a_program_keeps_more_results_than_the_limit(run_program: RunProgram, make: str, size: str) -> None:
    run(
        run_program,
        f"""
with motet.Executor("processes", 1) as executor:
    for value in range(24):
        kept.append(executor.submit({make}, value, {size}).result(30))
    for value, array in enumerate(kept):
        assert array.size == {size} and (array == value).all()
        array += 1
    # Some go, and their places hold others; those that stay are not touched by that.
    del kept[::2]
    for value in range(100, 124):
        kept.append(executor.submit({make}, value, {size}).result(30))
values = [*range(2, 25, 2), *range(100, 124)]
assert [int(array.min()) for array in kept] == [int(array.max()) for array in kept] == values
""",
    )


@pytest.mark.parametrize("make", ["filled", "born"])
@pytest.mark.parametrize("size", ["MIB", "5 * MIB"])
def test_a_worker_keeps_more_arguments_than_the_limit(run_program: RunProgram, make: str, size: str) -> None:
    run(
        run_program,
        f"""
with motet.Executor("processes", 1) as executor:
    for value in range(24):
        found = executor.submit(keep, {make}(value, {size})).result(30)
    assert found == list(range(24)), found
    # What the worker has kept is free again with its end.
    assert executor.statistics()["arena"]["kept_bytes"] + executor.statistics()["arena"]["given_bytes"] > 0
statistics = executor.statistics()["arena"]
assert (statistics["live_bytes"], statistics["kept_bytes"]) == (0, 0), statistics
assert statistics["held_bytes"] <= 8 * MIB, statistics
""",
    )


def test_large_arrays_that_are_kept_keep_no_descriptors(run_program: RunProgram) -> None:
    run(
        run_program,
        """
motet.set_arena_limit(100 * MIB)
with motet.Executor("processes", 1) as executor:
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    before = executor.submit(descriptors).result(30), descriptors()
    for value in range(18):
        kept.append(executor.submit(filled, value, 20 * MIB).result(30))
    # One to each, and only for those that are not given up yet: fewer than the limit has room for.
    after = executor.submit(descriptors).result(30), descriptors()
    assert all(now - then <= 6 for now, then in zip(after, before)), (before, after)
assert [int(array.min()) for array in kept] == list(range(18))
""",
    )


def test_a_result_that_is_kept_while_others_come_and_go(run_program: RunProgram) -> None:
    run(
        run_program,
        """
with motet.Executor("processes", 2) as executor:
    for value in range(200):
        array = executor.submit(filled, value).result(30)
        if value % 10 == 0:
            kept.append(array)
    del array
    assert [int(array.min()) for array in kept] == list(range(0, 200, 10))
""",
    )


def test_results_that_nobody_has_asked_for(run_program: RunProgram) -> None:
    run(
        run_program,
        """
with motet.Executor("processes", 2) as executor:
    futures = [executor.submit(filled, value) for value in range(40)]
for value, future in enumerate(futures):
    assert (future.result(0) == value).all()
""",
    )


def test_a_worker_holds_all_of_its_own_memory(run_program: RunProgram) -> None:
    run(
        run_program,
        """
def hoard(again):
    if again:
        return kept[0]
    try:
        while True:
            kept.append(motet.empty(MIB // 4, "uint8"))
    except motet.ArenaFull:
        return len(kept)

def big_error():
    raise ValueError("x" * 5000)

with motet.Executor("processes", 1) as executor:
    assert executor.submit(hoard, False).result(30) > 20
    # An array of the worker's that the program has too comes back to nobody.
    array = executor.submit(hoard, True).result(30)
    for function, kind in ((filled, motet.ArenaFull), (lambda value: "x" * MIB, motet.ArenaFull)):
        error = executor.submit(function, 1).exception(30)
        assert isinstance(error, kind), error
    error = executor.submit(big_error).exception(30)
    assert isinstance(error, ValueError) and len(str(error)) == 5000, error
    assert executor.submit(pow, 2, 3).result(30) == 8
    assert executor.statistics()["restarts"] == 0
""",
    )


def test_calls_of_other_executors_give_memory_back(run_program: RunProgram, tmp_path: Path) -> None:
    run(
        run_program,
        f"""
signal = {str(tmp_path / "go")!r}

def use(array, wait):
    while wait and not os.path.exists(signal):
        time.sleep(0.002)
    return array.nbytes

def submit():
    begun.set()
    return idle.submit(use, filled(1, 6 * MIB), False).result(30)

begun = threading.Event()
with (
    motet.Executor("processes", 1) as idle,
    motet.Executor("processes", 1) as busy,
    motet.Executor("threads", 1) as beside,
):
    assert idle.submit(int).result(30) == 0
    running = busy.submit(use, filled(1, 7 * MIB), True)
    waiting = beside.submit(submit)
    assert begun.wait(30)
    # Time for it to give up, if it does.
    time.sleep(1)
    assert not waiting.done()
    open(signal, "w").close()
    assert (running.result(30), waiting.result(30)) == (7 * MIB, 6 * MIB)
""",
    )


def test_many_threads_and_executors_share_little_memory(run_program: RunProgram) -> None:
    run(
        run_program,
        """
def total(*arrays):
    return sum(int(array.sum()) for array in arrays)

def submit_some(executor):
    for _ in range(10):
        assert executor.submit(total, filled(1, 2 * MIB), filled(1)).result(30) == 3 * MIB

def submit_too_much(executor):
    # Each has half of what there is, and wants more.
    for _ in range(5):
        error = executor.submit(total, filled(1, 3 * MIB), filled(1, 3 * MIB)).exception(30)
        assert error is None or isinstance(error, motet.ArenaFull), error

with motet.Executor("processes", 1) as first, motet.Executor("processes", 1) as second:
    for work in (submit_some, submit_too_much):
        with motet.Executor("threads", 2) as threads:
            for future in [threads.submit(work, executor) for executor in (first, second)]:
                future.result(50)
    # Alone it always has room.
    assert first.submit(total, filled(1, 3 * MIB), filled(1, 3 * MIB)).result(30) == 6 * MIB
""",
    )


def test_calls_that_wait_hold_what_their_messages_need(run_program: RunProgram) -> None:
    run(
        run_program,
        """
def lengths(array, text):
    return array.nbytes, len(text)

with motet.Executor("processes", 2) as executor:
    futures = [executor.submit(lengths, filled(1), "x" * 100_000) for _ in range(40)]
    assert {future.result(30) for future in futures} == {(MIB, 100_000)}
    # The program has it all: no message fits, and calls go on.
    try:
        while True:
            kept.append(motet.empty(MIB // 8, "uint8"))
    except motet.ArenaFull:
        pass
    futures = [executor.submit(len, "x" * 100_000) for _ in range(40)]
    assert {future.result(30) for future in futures} == {100_000}
""",
    )
