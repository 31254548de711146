"""Arrays through shared memory: without copies, without surprises, and with an end to the memory."""

from __future__ import annotations

import pickle

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.thread_unsafe(reason="counts what is in shared memory")


def total(array: numpy.ndarray) -> int:
    return int(array.sum())


def test_a_worker_writes_to_its_own_copy() -> None:
    def write(array: numpy.ndarray) -> int:
        array += 1
        return int(array.sum())

    array = motet.empty(100_000, "int64")
    array[:] = 7
    with motet.Executor("processes", 1) as executor:
        for _ in range(3):
            assert executor.submit(write, array).result(LIMIT) == 800_000
    assert (array == 7).all()


def test_an_array_that_was_born_there_is_not_copied() -> None:
    array = motet.empty((1000, 1000), "int64")
    array[:] = 1
    with motet.Executor("processes", 1) as executor:
        before = executor.statistics()["arena"]
        for part in (array, array[100:200]):
            assert executor.submit(total, part).result(LIMIT) == part.size
        after = executor.statistics()["arena"]
    assert after["allocations"] == before["allocations"]
    with motet.Executor("processes", 1) as executor:
        assert executor.submit(total, numpy.ones((1000, 1000), "int64")).result(LIMIT) == 1_000_000
        assert executor.statistics()["arena"]["allocations"] > after["allocations"]


def test_kinds_of_arrays_arrive_as_they_are() -> None:
    plain = numpy.arange(60_000, dtype="float32").reshape(200, 300)
    fortran = motet.empty((200, 300), "float32", order="F")
    fortran[:] = plain
    like = motet.empty_like(fortran)
    like[:] = plain
    assert like.flags.f_contiguous
    with motet.Executor("processes", 1) as executor:
        for array in (plain, plain.T, plain[::2, ::3], fortran, fortran[:, 10:20], like):
            found = executor.submit(lambda array: array, array).result(LIMIT)
            assert (found == array).all()
            found += 1
        assert executor.submit(motet.empty, (0, 5)).result(LIMIT).shape == (0, 5)
    assert (pickle.loads(pickle.dumps(fortran)) == plain).all()
    with pytest.raises(TypeError, match="Python objects"):
        motet.empty(5, object)


def test_results_outlive_their_worker() -> None:
    with motet.Executor("processes", 1, max_tasks_per_child=1) as executor:
        results = [executor.submit(numpy.full, 50_000, number).result(LIMIT) for number in range(5)]
    assert [int(result.sum()) for result in results] == [50_000 * number for number in range(5)]


def test_memory_that_is_used_up(run_program: RunProgram) -> None:
    ended = run_program("""
        import contextlib, motet, numpy

        motet.set_arena_limit(8 << 20)

        def size(array):
            return array.nbytes

        def use_up(executor):
            # Until a call finds no memory; what workers had comes back a little later.
            kept = []
            while True:
                with contextlib.suppress(motet.ArenaFull):
                    while True:
                        kept.append(motet.empty(1 << 18, "uint8"))
                error = executor.submit(size, numpy.ones(1 << 20, "uint8")).exception(30)
                if error is not None:
                    # Not the error: its traceback would keep the arrays.
                    return kept, type(error)

        with motet.Executor("processes", 2) as executor:
            # Far more than there is at once: submit waits.
            futures = [executor.submit(size, numpy.ones(1 << 20, "uint8")) for _ in range(50)]
            assert {future.result(30) for future in futures} == {1 << 20}
            # More than there ever will be.
            large = numpy.ones(9 << 20, "uint8")
            for function, arguments in ((size, (large,)), (numpy.ones, (9 << 20, "uint8"))):
                error = executor.submit(function, *arguments).exception(30)
                assert isinstance(error, motet.ArgumentTooLarge), error
                assert "set_arena_limit" in str(error), error
            # All of it is the program's own.
            kept, error = use_up(executor)
            assert error is motet.ArenaFull, error
            assert executor.submit(size, kept[0]).result(30) == 1 << 18
            del kept

            def again(future):
                errors.append(executor.submit(size, numpy.ones(7 << 20, "uint8")).exception(0))

            # Whoever waits for memory in a callback would wait for ever.
            errors = []
            first = executor.submit(size, numpy.ones(1, "uint8"))
            kept, _ = use_up(executor)
            first.result(30)
            first.add_done_callback(again)
            assert isinstance(errors[0], motet.ArenaFull), errors
        print("done")
    """)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_results_that_are_let_go_of_make_room(run_program: RunProgram) -> None:
    ended = run_program("""
        import motet, numpy

        motet.set_arena_limit(8 << 20)
        with motet.Executor("processes", 1) as executor:
            for _ in range(40):
                executor.submit(numpy.ones, 1 << 20, "uint8").result(30)
        print("done")
    """)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
