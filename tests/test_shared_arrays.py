"""Arrays that the program and its workers write to together: `motet.empty(..., shared=True)`."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from collections.abc import Iterator
from typing import Literal

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.thread_unsafe(reason="counts what is in shared memory")


@pytest.fixture(scope="module")
def workers() -> Iterator[motet.Executor]:
    with motet.Executor("processes", 1) as executor:
        yield executor


def write(array: numpy.ndarray, value: int) -> int:
    array[...] = value
    return os.getpid()


def total(array: numpy.ndarray) -> int:
    return int(array.sum())


def test_what_workers_write_is_in_the_array() -> None:
    array = motet.empty((4, 100_000), "int64", shared=True)
    assert not array.any()
    with motet.Executor("processes", 2) as executor:
        calls = [executor.submit(write, row, number) for number, row in enumerate(array, 1)]
        assert os.getpid() not in {call.result(LIMIT) for call in calls}
        assert array[:, 0].tolist() == array[:, -1].tolist() == [1, 2, 3, 4]
        # And the other way.
        array[:] = 5
        assert executor.submit(total, array).result(LIMIT) == 5 * array.size


@pytest.mark.parametrize(
    "part",
    [
        numpy.s_[3],
        numpy.s_[3, 5:6],
        numpy.s_[:, 2],
        numpy.s_[::-1, ::-2],
        numpy.s_[..., None],
        numpy.s_[5:5],
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(10, 20), (10, 2000)], ids=str)
def test_every_part_is_the_array_s_own(
    workers: motet.Executor, part: object, order: Literal["C", "F"], shape: tuple[int, int]
) -> None:
    array = motet.empty(shape, "int32", order, shared=True)
    expected = numpy.zeros(shape, "int32")
    expected[part] = 7
    workers.submit(write, array[part], 7).result(LIMIT)
    assert (array == expected).all()


def test_what_is_computed_from_it_is_plain() -> None:
    array = motet.empty(1000, shared=True)
    for made in (
        array + 1,
        array.copy(),
        array[[1, 2]],
        array[array > 0],
        numpy.sqrt(array),
        copy.copy(array),
    ):
        pickled = pickle.loads(pickle.dumps(made))
        assert made.base is None or not numpy.shares_memory(made, array)
        assert (pickled == made).all()
    assert isinstance(array.sum(), float)
    array += 1
    for view in (array, array.reshape(10, 100), array[5:].view("int64")):
        loaded = pickle.loads(pickle.dumps(view))
        assert type(loaded) is numpy.ndarray
        assert (loaded == view).all()
        loaded[:] = 0
    assert (array == 1).all()
    assert pickle.loads(pickle.dumps(array, 4)).sum() == 1000


def test_what_a_call_returns_is_a_copy() -> None:
    def give_back(array: numpy.ndarray) -> numpy.ndarray:
        array += 1
        return array[10:]

    array = motet.empty(10_000, "int64", shared=True)
    with motet.Executor("processes", 1) as executor:
        result = executor.submit(give_back, array).result(LIMIT)
    assert type(result) is numpy.ndarray
    result[:] = 9
    assert (array == 1).all()


def test_the_memory_lives_as_long_as_somebody_has_it() -> None:
    def keep(array: numpy.ndarray) -> None:
        sys.kept = array  # type: ignore[attr-defined]

    def read() -> tuple[int, int]:
        return total(sys.kept), sys.kept.size  # type: ignore[attr-defined]

    with motet.Executor("processes", 1) as executor:
        executor.submit(total, numpy.ones(5)).result(LIMIT)
        array = motet.empty(100_000, "uint8", shared=True)
        array[:] = 3
        # The call is on its way when its array is let go of.
        call = executor.submit(keep, array)
        del array
        call.result(LIMIT)
        others = [motet.empty(100_000, "uint8", shared=True) for _ in range(5)]
        for other in others:
            other[:] = 200
        assert executor.submit(read).result(LIMIT) == (300_000, 100_000)


def test_the_memory_returns(run_program: RunProgram) -> None:
    ended = run_program("""
        import gc, os
        import motet, numpy

        def write(array):
            array[:] = 1

        def files():
            return len(os.listdir("/proc/self/fd"))

        motet.set_arena_limit(16 << 20)
        with motet.Executor("processes", 1) as executor:
            executor.submit(write, motet.empty(10, shared=True)).result(30)
            here, there = files(), executor.submit(files).result(30)
            for _ in range(50):
                array = motet.empty(4 << 20, "uint8", shared=True)
                executor.submit(write, array[: 1 << 20]).result(30)
                assert array.sum() == 1 << 20
                del array
            # A segment may be on its way out.
            assert files() <= here + 4, (files(), here)
            assert executor.submit(files).result(30) <= there + 4
        print("done")
    """)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_a_dead_worker_leaves_what_it_wrote() -> None:
    def write_and_die(array: numpy.ndarray) -> None:
        array[:1000] = 1
        os.kill(os.getpid(), 9)

    array = motet.empty(2000, "uint8", shared=True)
    with motet.Executor("processes", 1) as executor:
        with pytest.raises(motet.WorkerDied):
            executor.submit(write_and_die, array).result(LIMIT)
        executor.submit(write, array[1000:], 2).result(LIMIT)
    assert array.sum() == 3000


def test_threads_write_too() -> None:
    array = motet.empty(2000, "uint8", shared=True)
    with motet.Executor("threads", 1) as executor:
        executor.submit(write, array, 2).result(LIMIT)
    assert array.sum() == 4000
