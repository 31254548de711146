"""The numbers that stand for functions."""

from __future__ import annotations

import collections
import functools
import gc
import os
import threading
import weakref
from typing import Any

import pytest
from motet._executor.functions import CARRIED, FunctionTable
from motet._executor.shipping import load_function


class Holder:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def product(a: int, b: int = 2) -> int:
    return a * b


def test_functions_of_modules_keep_one_number() -> None:
    table = FunctionTable()
    entry = table.enter(product)
    assert table.enter(product) is entry
    assert load_function(entry.blob) is product
    functions = (product, len, str.upper, os.path.join, Holder, int, dict.fromkeys)
    numbers = {table.enter(function).number for function in functions}
    assert len(numbers) == 7
    assert 0 not in numbers


def test_what_has_state_travels_with_each_call() -> None:
    table = FunctionTable()
    counter: collections.Counter[str] = collections.Counter()
    for function in (Holder().__repr__, functools.partial(product, 1), [].append, counter.update):
        assert table.enter(function) is CARRIED
    assert load_function(CARRIED.blob)(product, 3, b=3) == 9


def test_equal_lambdas_share_a_number() -> None:
    table = FunctionTable()
    assert len({table.enter(lambda x: x + 1).number for _ in range(20)}) == 1
    assert len({table.enter(lambda x, i=i: x + i).number for i in range(20)}) == 20


def test_what_was_captured_is_seen_as_it_is() -> None:
    table = FunctionTable()
    factor = 5

    def scaled(x: int) -> int:
        return x * factor

    def twice(x: int) -> int:
        return scaled(x) * 2

    first = table.enter(twice)
    assert table.enter(twice) is first
    factor = 6
    second = table.enter(twice)
    assert load_function(second.blob)(1) == 12
    assert second.number != first.number
    factor = 5
    assert table.enter(twice).number == first.number
    scaled.__defaults__ = (3,)
    assert load_function(table.enter(twice).blob)(1) == 10
    scaled.note = "x"  # type: ignore[attr-defined]
    assert table.enter(twice).number != first.number


def test_mutable_captures_are_dumped_again() -> None:
    table = FunctionTable()
    items = [1]
    holder = Holder(n=1)

    def total() -> Any:
        return sum(items) + holder.n

    first = table.enter(total)
    assert table.enter(total) is first
    items.append(5)
    second = table.enter(total)
    assert load_function(second.blob)() == 7
    holder.n = 10
    assert load_function(table.enter(total).blob)() == 16


def test_the_table_is_bounded_and_tells_what_it_gave_up() -> None:
    table = FunctionTable(meanings=16)
    kept = table.enter(product)
    numbers = []
    for i in range(200):
        numbers.append(table.enter(lambda i=i: i).number)
        assert table.enter(product) is kept
        assert len(table) <= 16
    assert len(set(numbers)) == 200
    forgotten = table.take_forgotten()
    assert table.take_forgotten() == []
    assert kept.number not in forgotten
    assert set(forgotten) < set(numbers)
    assert len(forgotten) == 201 - len(table)
    again = table.enter(lambda i=0: i)
    assert again.number not in forgotten


def test_the_table_is_bounded_in_bytes() -> None:
    table = FunctionTable(size=1_000_000)
    for i in range(20):
        text = bytes([i]) * 400_000
        table.enter(lambda text=text: text)
        assert len(table) <= 3


@pytest.mark.thread_unsafe(reason="runs the collector")
def test_functions_do_not_stay_for_ever() -> None:
    table = FunctionTable(meanings=8)

    def make() -> Any:
        return lambda x: x

    references = []
    for _ in range(100):
        function = make()
        references.append(weakref.ref(function))
        table.enter(function)
    del function
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 17


def test_threads_enter_functions_together() -> None:
    table = FunctionTable(meanings=8)
    problems: list[BaseException] = []
    barrier = threading.Barrier(4)

    def enter() -> None:
        try:
            barrier.wait(timeout=60)
            for i in range(200):
                place = i % 20
                assert load_function(table.enter(lambda place=place: place).blob)() == place
                assert load_function(table.enter(product).blob) is product
                table.take_forgotten()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
