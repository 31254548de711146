"""`sys.path` may grow while workers run: what a program imports then, its workers import too."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import motet
import pytest
from executor_helpers import LIMIT, warm

pytestmark = pytest.mark.thread_unsafe(reason="changes sys.path")

_numbers = itertools.count()

SOURCE = """
import sys

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return self.x == other.x
    def moved(self, step):
        return Point(self.x + step)

def origin():
    return Point(0)

def place():
    return sys.path.index(sys.modules[__name__].__file__.rpartition("/")[0])
"""

MakeModule = Callable[[], ModuleType]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    """Makes a module in a folder of its own, which is put before all others."""

    def make() -> ModuleType:
        name = f"found_later_{next(_numbers)}"
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(SOURCE)
        monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module(name)

    return make


@pytest.fixture
def executor() -> Iterator[motet.Executor]:
    with motet.Executor("processes", 2) as executor:
        warm(executor, 2)
        executor.submit(repr, 1).result(LIMIT)
        yield executor


def test_a_function(executor: motet.Executor, make_module: MakeModule) -> None:
    for _ in range(3):
        module = make_module()
        for future in [executor.submit(module.origin) for _ in range(20)]:
            assert future.result(LIMIT) == module.Point(0)


def test_an_argument_of_a_function_that_workers_know(
    executor: motet.Executor, make_module: MakeModule
) -> None:
    module = make_module()
    for future in [executor.submit(repr, module.Point(1)) for _ in range(20)]:
        assert f"<{module.__name__}.Point object" in future.result(LIMIT)


def test_a_method_of_an_object(executor: motet.Executor, make_module: MakeModule) -> None:
    for _ in range(3):
        module = make_module()
        for future in [executor.submit(module.Point(1).moved, 2) for _ in range(20)]:
            assert future.result(LIMIT) == module.Point(3)


def test_a_closure_that_imports(executor: motet.Executor, make_module: MakeModule) -> None:
    def work() -> object:
        return importlib.import_module(name).origin()

    assert executor.submit(len, "abc").result(LIMIT) == 3
    module = make_module()
    name = module.__name__
    for future in [executor.submit(work) for _ in range(20)]:
        assert future.result(LIMIT) == module.Point(0)


def test_items_of_a_mapping(make_module: MakeModule) -> None:
    assert list(motet.map(abs, range(10), on="processes", workers=2)) == list(range(10))
    module = make_module()
    points = [module.Point(number) for number in range(10)]
    moved = motet.map(module.Point.moved, points, [1] * 10, on="processes", workers=2)
    assert list(moved) == [module.Point(number + 1) for number in range(10)]


def test_the_order_is_the_programs_and_a_workers_own_entries_stay(make_module: MakeModule) -> None:
    with motet.Executor("processes", 1) as executor:
        executor.submit(lambda: sys.path.append("/a worker's own")).result(LIMIT)
        module = make_module()
        assert executor.submit(module.place).result(LIMIT) == 0
        assert executor.submit(lambda: sys.path[-1]).result(LIMIT) == "/a worker's own"
