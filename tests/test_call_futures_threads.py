"""`CallFuture` under many threads, under signals, across a fork, and in great numbers."""

from __future__ import annotations

import concurrent.futures
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest
from conftest import RunProgram
from motet._executor.futures import CallFuture

ROUNDS = 400


def race(*acts: Callable[[], object]) -> None:
    """Runs all at the same time, each in a thread."""
    barrier = threading.Barrier(len(acts))
    errors: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            barrier.wait(60)
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    assert not errors


@pytest.mark.parametrize("finisher", ["set_result", "_finish", "_fail", "_end_cancelled"])
def test_everybody_hears_of_the_end(finisher: str) -> None:
    def hear(wait: Callable[[], Any]) -> None:
        try:
            assert wait() == "result"
        except (CancelledError, OSError):
            assert finisher in {"_fail", "_end_cancelled"}

    arguments: dict[str, tuple[Any, ...]] = {"_fail": (OSError(),), "_end_cancelled": ()}
    for _ in range(ROUNDS // 4):
        future: CallFuture[str] = CallFuture()
        calls: list[object] = []
        race(
            lambda future=future: getattr(future, finisher)(*arguments.get(finisher, ("result",))),
            lambda future=future: hear(future.result),
            lambda future=future: hear(lambda: future.result(60)),
            lambda future=future: concurrent.futures.wait([future]),
            lambda future=future: list(concurrent.futures.as_completed([future])),
            lambda future=future, calls=calls: future.add_done_callback(calls.append),
            lambda future=future, calls=calls: future.add_done_callback(calls.append),
            lambda future=future: future._done_callbacks,
        )
        assert future.done()
        assert calls == [future, future]


def test_a_condition_is_made_while_it_ends() -> None:
    """Who has the condition, and finds the future not done, is told."""
    for _ in range(ROUNDS):
        future: CallFuture[int] = CallFuture()

        def wait(future: CallFuture[int] = future) -> None:
            with future._condition:
                while not future.done():
                    assert future._condition.wait(60), "not told"

        race(wait, lambda future=future: future.set_result(1), wait)


def test_nothing_changes_while_the_condition_is_held() -> None:
    for _ in range(ROUNDS):
        future: CallFuture[int] = CallFuture()

        def look(future: CallFuture[int] = future) -> None:
            with future._condition:
                before = future._state
                for _ in range(20):
                    assert future._state == before

        race(look, look, lambda future=future: future.set_running_or_notify_cancel(), future.cancel)


def test_one_end_only() -> None:
    for _ in range(ROUNDS):
        future: CallFuture[int] = CallFuture()
        calls: list[object] = []
        future.add_done_callback(calls.append)
        delivered: list[bool] = []
        race(
            lambda future=future, delivered=delivered: delivered.append(future._finish(1)),
            lambda future=future, delivered=delivered: delivered.append(future._fail(OSError())),
            lambda future=future, delivered=delivered: delivered.append(future._end_cancelled()),
            lambda future=future: future.cancel(),
        )
        assert future.done()
        assert delivered.count(True) == (0 if future._state == "CANCELLED" else 1) or future.cancelled()
        assert calls == [future]


def test_the_executor_and_who_cancels_agree() -> None:
    for _ in range(ROUNDS):
        future: CallFuture[int] = CallFuture()
        answers: dict[str, bool] = {}
        race(
            lambda future=future, answers=answers: answers.update(cancel=future.cancel()),
            lambda future=future, answers=answers: answers.update(
                start=future.set_running_or_notify_cancel()
            ),
        )
        assert answers["cancel"] is not answers["start"]


def test_many_wait_for_many() -> None:
    futures: list[CallFuture[int]] = [CallFuture() for _ in range(2_000)]

    def finish(start: int) -> None:
        for index in range(start, len(futures), 2):
            futures[index].set_result(index)

    sums: list[int] = []

    def add_up() -> None:
        sums.append(sum(future.result() for future in futures))

    def add_up_completed() -> None:
        sums.append(sum(future.result() for future in concurrent.futures.as_completed(futures)))

    race(lambda: finish(0), lambda: finish(1), add_up, add_up, add_up_completed)
    assert sums == [sum(range(2_000))] * 3


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("timeout", ["", "60"])
def test_an_interrupt_ends_the_wait(run_program: RunProgram, touched: bool, timeout: str) -> None:
    run = run_program(
        f"""
        import os, signal, threading
        from motet._executor.futures import CallFuture

        future = CallFuture()
        if {touched}:
            future._condition
        try:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            future.result({timeout})
        except KeyboardInterrupt:
            print("interrupted", future)
        future.set_result(1)
        print(future.result())
        """,
        timeout=30,
    )
    assert run.stderr == ""
    first, second = run.stdout.splitlines()
    assert first.startswith("interrupted <CallFuture at")
    assert second == "1"


def test_a_signal_that_raises_nothing_does_not_end_the_wait(run_program: RunProgram) -> None:
    run = run_program(
        """
        import os, signal, threading
        from motet._executor.futures import CallFuture

        future = CallFuture()
        # The future ends only if the handler runs during the wait.
        finish = threading.Thread(target=future.set_result, args=(1,))
        signal.signal(signal.SIGUSR1, lambda *_: finish.start())
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        print(future.result())
        """,
        timeout=30,
    )
    assert (run.stdout, run.stderr) == ("1\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_uses_futures_that_were_waited_for(run_program: RunProgram) -> None:
    run = run_program(
        """
        import os, threading, warnings
        from motet._executor.futures import CallFuture

        warnings.simplefilter("ignore", DeprecationWarning)
        busy = [CallFuture() for _ in range(50)]
        stop = threading.Event()

        def use():
            while not stop.is_set():
                for future in busy:
                    future.done()
                    CallFuture().add_done_callback(future.exception)

        threads = [threading.Thread(target=use) for _ in range(2)]
        threads += [threading.Thread(target=future.result) for future in busy[:4]]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                for future in busy:
                    future.set_result(1)
                    assert future.result() == 1
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stop.set()
        for future in busy:
            future.set_result(2)
        for thread in threads:
            thread.join()
        """,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.thread_unsafe(reason="counts the memory of the process")
def test_a_pending_future_is_small() -> None:
    count = 20_000
    futures: list[Any] = [None] * count
    assert sys.getsizeof(CallFuture()) <= 200
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for index in range(count):
            futures[index] = CallFuture()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count <= 200
