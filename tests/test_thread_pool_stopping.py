"""Calls in worker threads that are stopped, given up or tried again."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from typing import Any

import motet
import pytest
from conftest import RunProgram
from motet._executor.calls import CallStopped
from motet._executor.errors import CallTimeout
from thread_pool_helpers import LONG, Pool, spin, until


def test_a_call_whose_time_is_up_is_stopped_and_its_thread_goes_on() -> None:
    release = threading.Event()
    ended = threading.Event()

    def run() -> None:
        try:
            spin(release)
        except CallStopped:
            ended.set()
            raise

    with Pool(1) as pool:
        ident = pool.submit(threading.get_ident).result(LONG)
        future = pool.call(run, timeout=0.02)
        with pytest.raises(CallTimeout, match=r"run ran longer than 0\.02 seconds"):
            future.result(LONG)
        assert ended.wait(LONG)
        assert pool.submit(threading.get_ident).result(LONG) == ident
        assert pool.call(pow, 2, 3, timeout=LONG).result(LONG) == 8
        assert pool.workers.statistics()["abandoned"] == 0


def test_what_stops_a_call_never_reaches_anything_else() -> None:
    """Times are about as long as the calls, so that many are stopped just when they end."""
    problems: list[BaseException] = []

    def run(count: int) -> str:
        for _ in range(count):
            pass
        return "done"

    def callback(future: concurrent.futures.Future[Any]) -> None:
        # In the worker, after the call: many lines of Python.
        try:
            for _ in range(200):
                pass
        except BaseException as error:
            problems.append(error)

    began = time.perf_counter()
    run(20_000)
    usual = time.perf_counter() - began
    with Pool(2) as pool:
        limited, plain = [], []
        for number in range(600):
            future = pool.call(run, 20_000, timeout=usual * (0.5 + number % 20 / 10))
            future.add_done_callback(callback)
            limited.append(future)
            plain.append(pool.submit(run, 100))
        for future in limited:
            error = future.exception(LONG)
            assert error is None or isinstance(error, CallTimeout)
        assert {future.result(LONG) for future in plain} == {"done"}
    assert not problems
    statistics = pool.workers.statistics()
    assert (statistics["workers"], statistics["queued"], pool.workers.unfinished()) == (0, 0, 0)


def test_a_call_that_does_not_stop_loses_its_thread() -> None:
    release = threading.Event()
    ended = threading.Event()

    def blocked() -> str:
        try:
            release.wait()
        finally:
            ended.set()
        return "late"

    with Pool(1) as pool:
        future = pool.call(blocked, timeout=0.02)
        behind = pool.submit(threading.get_ident)
        with pytest.raises(CallTimeout):
            future.result(LONG)
        (lost,) = pool.workers.threads
        assert behind.result(LONG) != lost.ident
        assert pool.workers.statistics()["abandoned"] == 1
    # Nobody has waited for it.
    assert lost.is_alive()
    release.set()
    assert ended.wait(LONG)
    lost.join(LONG)
    assert not lost.is_alive()
    assert isinstance(future.exception(), CallTimeout)


def test_failed_attempts_are_repeated() -> None:
    attempts: list[int] = []

    def fail(times: int, kind: type[BaseException]) -> int:
        attempts.append(1)
        if len(attempts) <= times:
            raise kind("on purpose")
        return len(attempts)

    with Pool(1) as pool:
        assert pool.call(fail, 2, LookupError, retries=2).result(LONG) == 3
        attempts.clear()
        assert isinstance(pool.call(fail, 5, LookupError, retries=2).exception(LONG), LookupError)
        assert len(attempts) == 3
        attempts.clear()
        assert isinstance(pool.call(fail, 5, KeyboardInterrupt, retries=2).exception(LONG), KeyboardInterrupt)
        assert len(attempts) == 1
    assert pool.workers.unfinished() == 0


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_attempt_that_takes_too_long_is_repeated(stubborn: bool) -> None:
    release = threading.Event()
    attempts: list[int] = []

    def run() -> int:
        attempts.append(threading.get_ident())
        if len(attempts) == 1:
            if stubborn:
                release.wait()
            else:
                spin(release)
        return len(attempts)

    with Pool(1) as pool:
        assert pool.call(run, timeout=0.2, retries=3).result(LONG) >= 2
        assert (attempts[0] != attempts[1]) is stubborn
        attempts.clear()

        def always() -> None:
            attempts.append(1)
            spin(release)

        assert isinstance(pool.call(always, timeout=0.02, retries=2).exception(LONG), CallTimeout)
        assert len(attempts) == 3
    release.set()


def test_a_running_call_can_be_killed() -> None:
    release, begun = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        release.wait()

    with Pool(1) as pool:
        future = pool.submit(spin, release)
        until(future.running)
        assert not future.cancel()
        assert future.cancel(kill=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(LONG)
        assert pool.submit(pow, 2, 3).result(LONG) == 8
        ended = pool.submit(int)
        ended.result(LONG)
        assert not ended.cancel(kill=True)

        def is_abandoned() -> bool:
            # Not if it is stopped before it waits.
            begun.clear()
            blocked = pool.submit(block)
            assert begun.wait(LONG)
            assert blocked.cancel(kill=True)
            until(blocked.cancelled)
            return pool.workers.statistics()["abandoned"] == 1

        until(is_abandoned)
        assert pool.submit(pow, 2, 3).result(LONG) == 8
    release.set()


def test_a_pool_ends_though_all_its_threads_are_abandoned() -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def block() -> None:
        begun.release()
        release.wait()

    with Pool(2) as pool:
        futures = [pool.submit(block) for _ in range(2)]
        for future in futures:
            begun.acquire()
            assert future.cancel(kill=True)
    # Leaving has waited for the thread that gives the others up.
    assert all(future.cancelled() for future in futures)
    release.set()


def test_an_abandoned_thread_does_not_keep_the_program(run_program: RunProgram) -> None:
    program = """
        import threading
        from motet._executor.calls import Call, Options
        from motet._executor.threads import ThreadWorkers
        from motet._executor.threads import Setup

        workers = ThreadWorkers(1, Setup(None, ()), "test")
        block = threading.Lock()
        block.acquire()
        future = workers.submit(block.acquire, (), {}, Call(Options(timeout=0.01), block.acquire))
        print(type(future.exception(30)).__name__, workers.submit(pow, (2, 3), {}, None).result(30))
        workers.close()
        workers.join()
        """
    done = run_program(program)
    assert (done.returncode, done.stdout.split()) == (0, ["CallTimeout", "8"]), done.stderr


def test_an_abandoned_thread_that_outlives_the_interpreter_does_no_harm(run_program: RunProgram) -> None:
    program = """
        import time
        from motet._executor.calls import Call, Options
        from motet._executor.threads import ThreadWorkers
        from motet._executor.threads import Setup

        def insist():
            # Often without the interpreter, so that it wants it back while that ends.
            while True:
                try:
                    while True:
                        time.sleep(0.0005)
                except BaseException:
                    pass

        class Slow:
            def __del__(self):
                time.sleep(0.05)

        keep = Slow()
        workers = ThreadWorkers(1, Setup(None, ()), "test")
        future = workers.submit(insist, (), {}, Call(Options(timeout=0.01), insist))
        print(type(future.exception(30)).__name__, workers.submit(pow, (2, 3), {}, None).result(30))
        workers.close()
        workers.join()
        """
    done = run_program(program)
    assert (done.returncode, done.stdout.split()) == (0, ["CallTimeout", "8"]), done.stderr


def test_ending_by_force_does_not_wait_for_threads_that_do_not_stop() -> None:
    begun, go_on = threading.Barrier(3), threading.Lock()
    with go_on:
        executor = motet.Executor("threads", 2)
        calls = [executor.submit(wait_deaf, begun, go_on) for _ in range(2)]
        begun.wait(30)
        executor.shutdown(kill=True)
        assert all(call.cancelled() for call in calls)


def wait_deaf(begun: threading.Barrier, lock: threading.Lock) -> None:
    """Waits for a lock, which nothing interrupts."""
    begun.wait(30)
    with lock:
        pass
