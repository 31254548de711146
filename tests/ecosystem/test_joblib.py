"""joblib with motet as its backend, and scikit-learn on that where it is installed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import joblib  # type: ignore[import-untyped]
import motet
import numpy as np
import pytest
from joblib import Parallel, delayed
from motet.compat.joblib import register

pytestmark = pytest.mark.thread_unsafe(reason="joblib's backends are known to the whole process")


@pytest.fixture(autouse=True)
def backend() -> Iterator[None]:
    """joblib uses motet with two workers."""
    register()
    with joblib.parallel_config(backend="motet", n_jobs=2):
        yield


def where(_: int) -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


def test_calls_run_on_workers_in_order() -> None:
    assert Parallel()(delayed(pow)(number, 2) for number in range(300)) == [n * n for n in range(300)]
    pids = {pid for pid, _ in Parallel()(delayed(where)(number) for number in range(20))}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_closures_run() -> None:
    step = 3
    assert Parallel()(delayed(lambda number: number + step)(n) for n in range(5)) == [3, 4, 5, 6, 7]


def test_workers_stay_between_calls() -> None:
    first = {pid for pid, _ in Parallel()(delayed(where)(number) for number in range(40))}
    second = {pid for pid, _ in Parallel()(delayed(where)(number) for number in range(40))}
    assert first & second


def test_results_can_be_taken_as_they_come() -> None:
    results = Parallel(return_as="generator")(delayed(abs)(-number) for number in range(20))
    assert list(results) == list(range(20))
    unordered = Parallel(return_as="generator_unordered")(delayed(abs)(-number) for number in range(20))
    assert sorted(unordered) == list(range(20))


def test_arrays_travel() -> None:
    arrays = [np.full(200_000, float(number)) for number in range(4)]
    doubled = Parallel()(delayed(np.multiply)(array, 2.0) for array in arrays)
    assert [array[0] for array in doubled] == [0.0, 2.0, 4.0, 6.0]


def fail(number: int) -> int:
    if number == 7:
        raise LookupError("on purpose")
    return number


def test_exceptions_end_the_call_and_the_next_one_runs() -> None:
    with pytest.raises(LookupError, match="on purpose"):
        Parallel()(delayed(fail)(number) for number in range(100))
    assert Parallel()(delayed(fail)(number) for number in range(5)) == [0, 1, 2, 3, 4]


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_dead_worker_ends_one_call() -> None:
    with pytest.raises(motet.WorkerDied):
        Parallel()(delayed(die)(number) for number in range(4))
    assert Parallel()(delayed(abs)(number) for number in range(4)) == [0, 1, 2, 3]


def nested(number: int) -> tuple[int, list[tuple[int, str]]]:
    return os.getpid(), Parallel(n_jobs=2)(delayed(where)(n) for n in range(number))


def test_nested_calls_run_on_threads_of_the_worker() -> None:
    for pid, inner in Parallel()(delayed(nested)(4) for _ in range(4)):
        assert {inner_pid for inner_pid, _ in inner} == {pid}
        assert all(name != "MainThread" for _, name in inner)


def test_one_job_runs_here() -> None:
    (pid, _), *_ = Parallel(n_jobs=1)(delayed(where)(number) for number in range(2))
    assert pid == os.getpid()


def test_scikit_learn_searches_a_grid() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification  # type: ignore[import-not-found,unused-ignore]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found,unused-ignore]
    from sklearn.model_selection import GridSearchCV  # type: ignore[import-not-found,unused-ignore]

    inputs, classes = make_classification(300, 10, random_state=1)
    grid: dict[str, Any] = {"C": [0.1, 1.0, 10.0]}
    found = GridSearchCV(LogisticRegression(), grid, cv=3).fit(inputs, classes)
    with joblib.parallel_config(backend="sequential"):
        expected = GridSearchCV(LogisticRegression(), grid, cv=3).fit(inputs, classes)
    assert found.best_params_ == expected.best_params_
    assert np.array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
