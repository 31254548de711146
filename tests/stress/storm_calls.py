"""The calls of the storm: of all sorts, each with the ends that it may have."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple

import motet

# What the initializer leaves, in each worker.
_ready = threading.local()

Errors = tuple[type[BaseException], ...]


class Expected(NamedTuple):
    """What a call gives: a value, or what `check` says of it; or one of these errors."""

    future: Future[Any]
    check: Callable[[Any], bool]
    errors: Errors


class OnPurposeError(Exception):
    """Raised by calls."""


class Closed:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("it stays where it is")


def prepare(word: str) -> None:
    _ready.word = word


def double(number: int) -> int:
    return number * 2


def double_slowly(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number * 2


def double_when_prepared(number: int) -> int:
    return number * 2 if _ready.word == "prepared" else 0


def double_aloud(number: int) -> int:
    print(f"line {number} ends here")
    return number * 2


def fail(number: int) -> None:
    raise OnPurposeError(number)


def give_the_unshippable() -> Closed:
    return Closed()


def add_one(array: Any) -> Any:
    array += 1
    return array


def make_array(length: int, number: int) -> Any:
    array = motet.empty(length, "int64")
    array[:] = number
    return array


def sum_elsewhere(numbers: list[int]) -> int:
    """Has an executor of its own, inside of a worker."""
    with motet.Executor("processes", 1) as executor:
        return executor.submit(sum, numbers).result()


class Calls:
    """Submits calls to an executor whose workers are `prepare`d, as the generator chooses."""

    def __init__(self, executor: motet.Executor, generator: random.Random) -> None:
        self._executor = executor
        self._generator = generator
        self._kinds = [
            *[self._small] * 60,
            *[self._of_some_time] * 20,
            *[self._array] * 30,
            *[self._array_from_worker] * 10,
            *[self._tried_again] * 20,
            *[self._in_a_hurry] * 20,
            *[self._cancelled] * 20,
            *[self._failing] * 10,
            *[self._unshippable] * 5,
            *[self._prepared] * 10,
            *[self._aloud] * 10,
            self._nested,
        ]

    def submit(self) -> Expected:
        """One call more."""
        kind = self._generator.choice(self._kinds)
        return kind(self._generator.randrange(1_000_000))

    def _of(self, future: Future[Any], value: object, *errors: type[BaseException]) -> Expected:
        return Expected(future, lambda found: bool(found == value), (motet.WorkerDied, *errors))

    def _of_array(self, future: Future[Any], length: int, number: int) -> Expected:
        def check(found: Any) -> bool:
            return bool(found.shape == (length,) and (found == number).all())

        return Expected(future, check, (motet.WorkerDied,))

    def _length(self) -> int:
        # Now and then one of many pages.
        return self._generator.randrange(1, 500_000 if self._generator.random() < 0.05 else 40_000)

    def _small(self, number: int) -> Expected:
        return self._of(self._executor.submit(double, number), number * 2)

    def _of_some_time(self, number: int) -> Expected:
        return self._of(self._executor.submit(double_slowly, number, 0.001), number * 2)

    def _array(self, number: int) -> Expected:
        import numpy

        length = self._length()
        array = self._generator.choice([numpy.empty, motet.empty])(length, "int64")
        array[:] = number
        return self._of_array(self._executor.submit(add_one, array), length, number + 1)

    def _array_from_worker(self, number: int) -> Expected:
        length = self._length()
        return self._of_array(self._executor.submit(make_array, length, number), length, number)

    def _tried_again(self, number: int) -> Expected:
        patient = self._executor.options(retries=self._generator.randrange(5), name="tried again")
        return self._of(patient.submit(double_slowly, number, 0.001), number * 2)

    def _in_a_hurry(self, number: int) -> Expected:
        hasty = self._executor.options(timeout=0.02, retries=self._generator.randrange(2))
        seconds = self._generator.choice([0.001, 0.2])
        return self._of(hasty.submit(double_slowly, number, seconds), number * 2, motet.CallTimeout)

    def _cancelled(self, number: int) -> Expected:
        future = self._executor.submit(double_slowly, number, self._generator.choice([0.001, 0.1]))
        if self._generator.random() < 0.5:
            delay = self._generator.random() / 50
            threading.Timer(delay, future.cancel, kwargs={"kill": True}).start()
        else:
            future.cancel()
        return self._of(future, number * 2, CancelledError)

    def _failing(self, number: int) -> Expected:
        retries = self._generator.randrange(3)
        return self._of(
            self._executor.options(retries=retries).submit(fail, number), NotImplemented, OnPurposeError
        )

    def _unshippable(self, number: int) -> Expected:
        return self._of(self._executor.submit(give_the_unshippable), NotImplemented, motet.NotShippable)

    def _prepared(self, number: int) -> Expected:
        return self._of(self._executor.submit(double_when_prepared, number), number * 2)

    def _aloud(self, number: int) -> Expected:
        return self._of(self._executor.submit(double_aloud, number), number * 2)

    def _nested(self, number: int) -> Expected:
        return self._of(self._executor.submit(sum_elsewhere, [number, 1]), number + 1)
