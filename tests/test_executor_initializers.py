"""What initializers leave for calls: variables of the program's own module, which workers never import."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from conftest import RunProgram

pytestmark = [
    pytest.mark.thread_unsafe(reason="each thread would start programs with workers of their own"),
    pytest.mark.timeout(240),
]

PROGRAM = """
    import functools, json, motet

    declared = None
    changed = {}
    seen = []
    number = 1

    class Model:
        def loaded(self):
            return declared

    class Setter:
        def __init__(self, value):
            self.value = value
        def __call__(self):
            begin(self.value)

    def begin(value):
        global declared, undeclared
        declared, undeclared = value, value + 1
        changed["by the initializer"] = True
        helper()

    def helper():
        seen.append(number)

    def look():
        return declared, undeclared, changed, seen, number, Model().loaded()

    def executor(initializer, *arguments):
        return motet.Executor("processes", 1, initializer=initializer, initargs=arguments)
"""

EXPECTED = "(5, 6, {'by the initializer': True}, [1], 1, 5)"


def lines(source: str, run_program: RunProgram) -> list[str]:
    result = run_program(textwrap.dedent(PROGRAM) + textwrap.dedent(source))
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    "initializer",
    ["begin, 5", "functools.partial(begin, 5)", "lambda: begin(5)", "Setter(5)", "Setter(5).__call__"],
)
def test_what_an_initializer_sets_is_there_for_calls(initializer: str, run_program: RunProgram) -> None:
    source = f"""
        with executor({initializer}) as pool:
            print(pool.submit(look).result())
            print(pool.submit(lambda: look()).result())
            print(pool.submit(functools.partial(look)).result())
    """
    assert lines(source, run_program) == [EXPECTED] * 3


def test_what_it_has_not_set_follows_the_program(run_program: RunProgram) -> None:
    source = """
        with executor(begin, 5) as pool:
            for number in (1, 2, 1):
                declared = "the program's"
                print(pool.submit(look).result())
    """
    assert lines(source, run_program) == [EXPECTED, EXPECTED.replace("[1], 1", "[1], 2"), EXPECTED]


def test_a_worker_that_comes_later_has_it_too(run_program: RunProgram) -> None:
    source = """
        with executor(begin, 5) as pool:
            print(pool.submit(look).result())
            next(iter(pool._processes.values())).kill()
            while pool.submit(int).exception():
                pass
            print(pool.submit(look).result())
    """
    assert lines(source, run_program) == [EXPECTED] * 2


def test_each_pool_has_its_own(run_program: RunProgram) -> None:
    source = """
        with executor(begin, 5) as one, executor(begin, 6) as other, executor(None) as plain:
            print([pool.submit(lambda: declared).result() for pool in (one, other, plain)])
    """
    assert lines(source, run_program) == ["[5, 6, None]"]


def test_modules_of_the_same_name_are_not_mixed_up(run_program: RunProgram, tmp_path: Path) -> None:
    source = """
        space = {"__name__": __name__, "declared": 7}
        exec("def get():\\n    return declared", space)
        with executor(begin, 5) as pool:
            print(pool.submit(space["get"]).result(), pool.submit(lambda: declared).result())
    """
    assert lines(source, run_program) == ["7 5"]


@pytest.mark.parametrize(
    ("make", "use"),
    [
        ("context.Lock()", "shared.acquire()"),
        ("context.Lock()", "shared.__enter__()"),
        ("context.Value('i', 3)", "shared.value"),
        ("context.Array('i', 3)", "shared[0]"),
        ("context.RawArray('i', 3)", "shared[0]"),
        ("context.Queue()", "shared.put(1)"),
        ("context.Event()", "shared.set()"),
    ],
)
def test_what_processes_share_comes_by_the_initializer(make: str, use: str, run_program: RunProgram) -> None:
    source = f"""
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        shared = {make}

        def take(value):
            global shared
            shared = value

        def touch():
            {use}
            return "used"

        with executor(None) as without, executor(take, shared) as given:
            error = without.submit(touch).exception()
            print(type(error).__name__, "hand it to the initializer" in str(error))
            print(given.submit(touch).result())
    """
    assert lines(source, run_program) == ["RuntimeError True", "used"]
