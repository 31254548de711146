"""`CallFuture` beside `concurrent.futures.Future`: what programs see is the same."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import pickle
import threading
import unittest
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StockFuture
from importlib import import_module
from types import GenericAlias
from typing import Any

import pytest
from motet._executor.futures import CallFuture

Make = Callable[[], "StockFuture[Any]"]


@pytest.fixture(params=[StockFuture, CallFuture], ids=["stock", "motet"])
def make(request: pytest.FixtureRequest) -> Make:
    """What makes a future: Python's own class, then motet's."""
    maker: Make = request.param
    return maker


def test_it_is_a_future_of_pythons() -> None:
    future: CallFuture[int] = CallFuture()
    assert isinstance(future, concurrent.futures.Future)
    assert isinstance(CallFuture[int], GenericAlias)
    assert not asyncio.isfuture(future)


def test_a_call_that_returns(make: Make) -> None:
    future = make()
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert future._state == "PENDING"
    assert future.set_running_or_notify_cancel() is True
    assert (future.done(), future.running()) == (False, True)
    assert future.cancel() is False
    assert future.set_result(result=42) is None  # type: ignore[func-returns-value]
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.cancel() is False
    assert future.result() == future.result(timeout=0) == 42
    assert future.exception(0) is None
    assert future._state == "FINISHED"


def test_a_call_that_raises(make: Make) -> None:
    future = make()
    error = KeyError("it")
    future.set_exception(exception=error)
    assert future.exception() is error
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            future.result()
        assert caught.value is error


def test_what_it_raises_has_the_context_of_now(make: Make) -> None:
    future = make()
    future.set_exception(KeyError("it"))
    outer = ValueError("outer")
    try:
        raise outer
    except ValueError:
        with pytest.raises(KeyError) as caught:
            future.result()
    assert caught.value.__context__ is outer


def test_an_exception_that_is_none_is_a_result(make: Make) -> None:
    future = make()
    future.set_exception(None)
    assert future.result() is None
    assert future.exception() is None


def test_an_exception_that_is_a_class_is_made(make: Make) -> None:
    future = make()
    future.set_exception(KeyError)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        future.result()


def test_an_exception_that_is_none_of_them_is_refused_in_the_end(make: Make) -> None:
    future = make()
    future.set_exception(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="exceptions must derive from BaseException"):
        future.result()


def test_a_call_that_is_cancelled(make: Make) -> None:
    future = make()
    assert future.cancel() is True
    assert future._state == "CANCELLED"
    assert future.cancel() is True
    assert (future.done(), future.running(), future.cancelled()) == (True, False, True)
    for wait in (future.result, future.exception):
        with pytest.raises(CancelledError):
            wait()
    assert future.set_running_or_notify_cancel() is False
    assert future._state == "CANCELLED_AND_NOTIFIED"
    assert future.cancelled()


@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_what_has_ended_cannot_end_again(make: Make, end: str) -> None:
    future = make()
    {
        "result": lambda: future.set_result(5),
        "exception": lambda: future.set_exception(OSError()),
        "cancel": future.cancel,
    }[end]()
    state = future._state
    with pytest.raises(InvalidStateError) as caught:
        future.set_result(1)
    assert str(caught.value) == f"{state}: {future!r}"
    with pytest.raises(InvalidStateError, match=f"{state}: <"):
        future.set_exception(ValueError())
    assert future._state == state


@pytest.mark.thread_unsafe(reason="reads what all threads have logged")
def test_a_call_cannot_begin_twice(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    future = make()
    future.set_running_or_notify_cancel()
    with pytest.raises(RuntimeError, match="Future in unexpected state"):
        future.set_running_or_notify_cancel()
    assert caplog.record_tuples == [
        ("concurrent.futures", logging.CRITICAL, f"Future {id(future)} in unexpected state: RUNNING")
    ]


def test_how_it_looks(make: Make) -> None:
    future = make()
    start = f"<{type(future).__name__} at {id(future):#x} state="
    assert repr(future) == f"{start}pending>"
    future.set_running_or_notify_cancel()
    assert repr(future) == f"{start}running>"
    future.set_result("x")
    assert repr(future) == f"{start}finished returned str>"
    failed, cancelled = make(), make()
    failed.set_exception(OSError())
    assert repr(failed).endswith(" state=finished raised OSError>")
    cancelled.cancel()
    assert repr(cancelled).endswith(" state=cancelled>")


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 0.001, False])
def test_waiting_in_vain(make: Make, timeout: float) -> None:
    future = make()
    for wait in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            wait(timeout)
    future.set_result(1)
    assert future.result(timeout) == 1


@pytest.mark.parametrize(("timeout", "error"), [("1", TypeError), (1e300, OverflowError)])
def test_timeouts_that_are_none(make: Make, timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make().result(timeout)


def test_arguments_that_do_not_fit(make: Make) -> None:
    future: Any = make()
    for call in (
        lambda: future.cancel(1),
        lambda: future.cancel(other=1),
        lambda: future.result(1, 2),
        lambda: future.result(other=1),
        lambda: future.set_result(),
        lambda: future.set_result(1, 2),
        lambda: future.add_done_callback(),
        lambda: future.done(1),
    ):
        with pytest.raises(TypeError):
            call()
    assert not future.done()


def test_waiting_in_a_thread(make: Make) -> None:
    future = make()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda wait=wait, timeout=timeout: results.append(wait(timeout)))
        for wait in (future.result, future.exception)
        for timeout in (None, 60)
    ]
    for thread in threads:
        thread.start()
    future.set_result(7)
    for thread in threads:
        thread.join(60)
    assert sorted(results, key=str) == [7, 7, None, None]


def test_the_attributes_can_be_set(make: Make) -> None:
    future: Any = make()
    with future._condition:
        future._state = "FINISHED"
        future._exception, future._result = None, 5
        future._condition.notify_all()
    assert (future.result(), future._result, future._exception) == (5, 5, None)
    error = OSError()
    future._exception = error
    assert future.exception() is future._exception is error
    future._waiters, future._done_callbacks = [1], [2]
    assert (future._waiters, future._done_callbacks) == ([1], [2])
    future.note = "a program's own"
    assert future.note
    future.__init__()


def test_it_cannot_be_pickled(make: Make) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(make())


@pytest.mark.thread_unsafe(reason="switches the collector off")
@pytest.mark.parametrize("touched", [False, True])
def test_it_goes_without_the_collector(make: Make, touched: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        future = make()
        future.add_done_callback(lambda done: done.exception())
        if touched:
            assert future._condition
            concurrent.futures.wait([future], 0)
        future.set_exception(OSError())
        with pytest.raises(OSError):  # noqa: PT011
            future.result()
        gone = weakref.ref(future)
        del future
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.thread_unsafe(reason="counts on the collector")
def test_the_collector_finds_cycles(make: Make) -> None:
    future: Any = make()
    future.add_done_callback(lambda _, own=future: own)
    done: Any = make()
    done.set_result(done)
    waited: Any = make()
    waited._waiters.append(waited)
    waited._done_callbacks.append(waited)
    gone = [weakref.ref(each) for each in (future, done, waited)]
    del future, done, waited
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def replaced_suite(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """CPython's own tests of futures, about motet's class."""
    try:
        tests = import_module("test.test_concurrent_futures.test_future")
        util = import_module("test.test_concurrent_futures.util")
    except ImportError:
        pytest.skip("this Python has no package of CPython's tests")
    # pytest's own handlers keep this one from being used.
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "handlers", [logging.lastResort])
    # Its name is what the tests expect to see.
    own = type("Future", (CallFuture,), {})
    for module in (tests, util):
        monkeypatch.setattr(module, "Future", own)
    for name in [name for name in vars(tests) if name.endswith("_FUTURE")]:
        stock = getattr(tests, name)
        options = {"exception": stock._exception, "result": stock._result}
        monkeypatch.setattr(tests, name, util.create_future(state=stock._state, **options))
    return tests.FutureTests, unittest.TestLoader().getTestCaseNames(tests.FutureTests)


@pytest.mark.thread_unsafe(reason="replaces classes of the standard library's tests")
def test_the_tests_of_cpython(monkeypatch: pytest.MonkeyPatch) -> None:
    case, names = replaced_suite(monkeypatch)
    result = unittest.TestResult()
    for name in names:
        case(name).run(result)
    assert not result.errors + result.failures
    assert result.testsRun > 15
