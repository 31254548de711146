"""Worker threads: what runs where, how calls are taken back, and what is left of them."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import pytest
from conftest import RunProgram
from motet._executor.calls import CallStopped
from motet._executor.errors import InitializerFailed
from motet._executor.futures import CallFuture
from thread_pool_helpers import LONG, Pool, until


class Thing:
    """Something that can be referred to weakly."""


def test_results_arguments_and_all_exceptions_come_back() -> None:
    def fail(error: BaseException) -> None:
        raise error

    with Pool(2) as pool:
        assert pool.submit(pow, 2, 10).result(LONG) == 1024
        assert pool.submit(dict, a=1, b=2).result(LONG) == {"a": 1, "b": 2}
        for error in (
            LookupError("on purpose"),
            KeyboardInterrupt(),
            SystemExit(3),
            GeneratorExit(),
            CallStopped(),
        ):
            assert pool.submit(fail, error).exception(LONG) is error
        # Its traceback begins with the call's own line.
        traceback = error.__traceback__
        assert traceback is not None
        assert traceback.tb_frame.f_code is fail.__code__
        with pytest.raises(TypeError):
            pool.submit(pow, nothing=1).result(LONG)
        assert pool.submit(threading.get_ident).result(LONG) != threading.get_ident()


def test_threads_are_started_as_they_are_needed() -> None:
    with Pool(3) as pool:
        assert not pool.workers.threads
        idents = {pool.submit(threading.get_ident).result(LONG) for _ in range(50)}
        assert len(idents) == len(pool.workers.threads) == 1
        barrier = threading.Barrier(3)
        futures = [pool.submit(barrier.wait, LONG) for _ in range(3)]
        assert sorted(future.result(LONG) for future in futures) == [0, 1, 2]
        assert {thread.name for thread in pool.workers.threads} == {"test_0", "test_1", "test_2"}
        for _ in range(50):
            pool.submit(int).result(LONG)
        assert pool.workers.statistics()["workers"] == 3


def test_one_worker_keeps_the_order() -> None:
    order: list[int] = []
    with Pool(1) as pool:
        for number in range(2000):
            pool.submit(order.append, number)
    assert order == list(range(2000))


def test_a_call_that_has_not_begun_can_be_taken_back() -> None:
    release = threading.Event()
    thing = Thing()
    gone = weakref.ref(thing)
    with Pool(1) as pool:
        first = pool.submit(release.wait, LONG)
        until(first.running)
        waiting = [pool.submit(print, thing) for _ in range(10)]
        last = pool.submit(int)
        assert not first.cancel()
        del thing
        assert all(future.cancel() for future in waiting)
        assert gone() is None
        assert pool.workers.unfinished() == 2
        assert all(future.cancelled() and future.cancel() for future in waiting)
        release.set()
        assert (first.result(LONG), last.result(LONG)) == (True, 0)
        concurrent.futures.wait(waiting, LONG)


def test_an_idle_worker_holds_nothing() -> None:
    class Callable(Thing):
        def __call__(self, argument: Thing, *, keyword: Thing) -> Thing:
            return made.pop()

    # Made here: on free-threaded builds an object goes when the thread that has made it runs Python.
    made = [Thing()]
    function, argument, keyword = Callable(), Thing(), Thing()
    gone = [weakref.ref(thing) for thing in (function, argument, keyword)]
    with Pool(1) as pool:
        future = pool.submit(function, argument, keyword=keyword)
        del function, argument, keyword
        result = weakref.ref(future.result(LONG))
        assert result() is not None
        assert all(thing() is None for thing in gone)
        del future
        until(lambda: result() is None)


def test_the_initializer_runs_in_each_thread() -> None:
    local = threading.local()
    barrier = threading.Barrier(2)

    def initialize(value: int) -> None:
        local.value = value

    def look() -> int:
        barrier.wait(LONG)
        value: int = local.value
        return value

    with Pool(2, initialize, 7) as pool:
        assert [future.result(LONG) for future in [pool.submit(look), pool.submit(look)]] == [7, 7]


@pytest.mark.thread_unsafe(reason="looks at the log")
def test_a_failing_initializer_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    proceed = threading.Event()

    def initialize() -> None:
        proceed.wait(LONG)
        raise LookupError("on purpose")

    with Pool(2, initialize) as pool:
        futures = [pool.submit(int) for _ in range(5)]
        proceed.set()
        for future in futures:
            error = future.exception(LONG)
            assert isinstance(error, InitializerFailed)
            assert isinstance(error, BrokenThreadPool)
            assert isinstance(error.__cause__, LookupError)
        with pytest.raises(BrokenThreadPool):
            pool.submit(int)
        assert isinstance(pool.workers.broken, InitializerFailed)
    assert "Exception in initializer:" in caplog.text


def test_each_call_is_run_or_taken_back_but_not_both() -> None:
    ran: list[int] = []
    with Pool(2) as pool:
        for _ in range(20):
            futures = [pool.submit(ran.append, number) for number in range(200)]
            cancelled = {number for number, future in enumerate(futures) if future.cancel()}
            concurrent.futures.wait(futures, LONG)
            assert sorted({*ran, *cancelled}) == list(range(200))
            assert len(ran) + len(cancelled) == 200
            ran.clear()


def test_calls_may_submit_calls() -> None:
    with Pool(3) as pool:

        def grow(depth: int) -> list[CallFuture[Any]]:
            return [] if depth == 0 else [pool.submit(grow, depth - 1) for _ in range(3)]

        def count(future: CallFuture[Any]) -> int:
            return 1 + sum(map(count, future.result(LONG)))

        assert count(pool.submit(grow, 7)) == (3**8 - 1) // 2


def test_many_threads_may_submit() -> None:
    results: list[int] = []
    with Pool(2) as pool:

        def submit() -> None:
            futures = [pool.submit(pow, 2, 3) for _ in range(500)]
            results.extend(future.result(LONG) for future in futures)

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [8] * 2000
    statistics = pool.workers.statistics()
    assert (statistics["submitted"], statistics["finished"]) == (2000, 2000)


def test_a_pool_grows_and_shrinks() -> None:
    release = threading.Event()
    with Pool(1) as pool:
        futures = [pool.submit(release.wait, LONG) for _ in range(4)]
        assert pool.workers.statistics()["workers"] == 1
        pool.workers.resize(4)
        until(lambda: pool.workers.statistics()["running"] == 4)
        pool.workers.resize(2)
        assert pool.workers.count == 2
        release.set()
        assert all(future.result(LONG) for future in futures)
        until(lambda: pool.workers.statistics()["workers"] == 2)
        pool.workers.resize(1)
        until(lambda: pool.workers.statistics()["workers"] == 1)
        assert pool.submit(pow, 2, 3).result(LONG) == 8
        with pytest.raises(ValueError, match="greater than 0"):
            pool.workers.resize(0)


def test_closing_leaves_no_call_behind() -> None:
    release = threading.Event()
    pool = Pool(1)
    first = pool.submit(release.wait, LONG)
    until(first.running)
    taken_back = [pool.submit(int) for _ in range(5)]
    assert pool.workers.withdraw_all() == taken_back
    for future in taken_back:
        future._end_cancelled()
    assert all(future.cancelled() for future in taken_back)
    kept = pool.submit(int)
    pool.workers.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(int)
    release.set()
    pool.workers.join()
    assert (first.result(0), kept.result(0), pool.workers.unfinished()) == (True, 0, 0)
    assert not any(thread.is_alive() for thread in pool.workers.threads)


def test_threads_end_when_nobody_has_the_pool_any_more() -> None:
    release = threading.Event()
    pool = Pool(2)
    futures = [pool.submit(release.wait, LONG), pool.submit(release.wait, LONG), pool.submit(int)]
    pool.call(int, timeout=LONG)
    threads = [*pool.workers.threads, pool.workers.crew.watch]
    core = weakref.ref(pool.workers)
    del pool
    until(lambda: gc.collect() >= 0 and core() is None)
    release.set()
    assert [future.result(LONG) for future in futures] == [True, True, 0]
    for thread in threads:
        assert thread is not None
        thread.join(LONG)
        assert not thread.is_alive()


def test_contexts_are_as_with_threads_of_python_itself() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    variable.set("here")

    def seen(submit: Callable[..., concurrent.futures.Future[Any]]) -> list[str]:
        before = submit(variable.get).result(LONG)
        submit(variable.set, "there").result(LONG)
        return [before, submit(variable.get).result(LONG), variable.get()]

    with Pool(1) as pool, concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert seen(pool.submit) == seen(executor.submit)


def test_futures_are_those_of_concurrent_futures() -> None:
    with Pool(2) as pool:
        futures = [pool.submit(pow, number, 2) for number in range(20)]
        assert sum(future.result() for future in concurrent.futures.as_completed(futures, LONG)) == 2470


def test_a_forked_child_begins_anew(run_program: RunProgram) -> None:
    program = """
        import os, threading, warnings
        from motet._executor.threads import ThreadWorkers
        from motet._executor.threads import Setup

        warnings.simplefilter("ignore")
        workers = ThreadWorkers(1, Setup(None, ()), "test")
        begun, release = threading.Event(), threading.Event()

        def block():
            begun.set()
            release.wait()

        workers.submit(block, (), {}, None)
        old = workers.submit(int, (), {}, None)
        begun.wait()
        child = os.fork()
        if child == 0:
            assert workers.unfinished() == 0
            assert workers.submit(pow, (2, 3), {}, None).result(30) == 8
            assert old.cancel()
            workers.close()
            workers.join()
            print("child", flush=True)
        else:
            assert os.waitpid(child, 0)[1] == 0
            release.set()
            assert old.result(30) == 0
            workers.close()
            workers.join()
            print("parent")
        """
    done = run_program(program)
    assert (done.returncode, done.stdout.split()) == (0, ["child", "parent"]), done.stderr
