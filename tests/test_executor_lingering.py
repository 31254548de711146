"""Workers whose exit handlers hang: neither an end by force nor the interpreter's exit waits for them."""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, append, nap, wait_until, warm
from motet._executor import stopping

pytestmark = pytest.mark.thread_unsafe(reason="warnings, and processes that are killed")


def hang_at_exit() -> None:
    atexit.register(time.sleep, 1000)


def hang_at_exit_and_stop_late(path: str) -> None:
    hang_at_exit()
    append(path, "begun")
    try:
        time.sleep(LIMIT)
    finally:
        time.sleep(0.5)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_end_by_force_does_not_wait_for_exit_handlers(workers: int) -> None:
    executor = motet.Executor("processes", workers, thread_name_prefix="lingerer")
    warm(executor, workers)
    executor.submit(hang_at_exit).result(LIMIT)
    with pytest.warns(RuntimeWarning, match=r"lingerer-\d did not end .* had to be killed"):
        executor.shutdown(kill=True)


def test_a_call_that_stops_late_and_then_hangs_at_exit(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    executor = motet.Executor("processes", 1)
    future = executor.submit(hang_at_exit_and_stop_late, str(begun))
    wait_until(begun.exists)
    with pytest.warns(RuntimeWarning, match="had to be killed"):
        executor.shutdown(kill=True)
    assert future.cancelled()


def test_exit_handlers_have_the_time_that_they_need(tmp_path: Path) -> None:
    path = str(tmp_path / "lines")

    def tidy_up() -> None:
        nap(1.5)
        append(path, "tidied up")

    with motet.Executor("processes", 1) as executor:
        executor.submit(lambda: (atexit.register(tidy_up), None)[1]).result(LIMIT)
    assert Path(path).read_text() == "tidied up\n"


def test_one_that_has_done_its_calls_gives_its_place_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "EXIT_GRACE", 0.5)
    executor = motet.Executor("processes", 1, max_tasks_per_child=1, thread_name_prefix="lingerer")
    executor.submit(hang_at_exit).result(LIMIT)
    first, second = (executor.submit(os.getpid).result(LIMIT) for _ in range(2))
    assert first != second
    assert executor.statistics()["restarts"] >= 2
    with pytest.warns(RuntimeWarning, match=r"lingerer-1 did not end within 0\.5 seconds"):
        executor.shutdown()


def test_one_whose_last_call_was_taken_back_gives_its_place_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stopping, "EXIT_GRACE", 0.5)
    begun, go_on = tmp_path / "begun", tmp_path / "go on"

    def hang_at_exit_later() -> None:
        hang_at_exit()
        begun.touch()
        wait_until(go_on.exists)

    executor = motet.Executor("processes", 1, max_tasks_per_child=2, thread_name_prefix="lingerer")
    first = executor.submit(hang_at_exit_later)
    wait_until(begun.exists)
    assert executor.submit(nap, 0).cancel()
    third = executor.submit(nap, 0)
    go_on.touch()
    first.result(LIMIT)
    # One of them is the second call of the first worker, or of none; neither waits for its end.
    assert third.result(LIMIT) == executor.submit(nap, 0).result(LIMIT) == 0
    with pytest.warns(RuntimeWarning, match=r"lingerer-1 did not end within 0\.5 seconds"):
        executor.shutdown()


@pytest.mark.parametrize("known", [True, False])
def test_the_interpreters_exit_does_not_wait_for_ever(run_program: RunProgram, known: bool) -> None:
    ended = run_program(
        """
        import atexit, sys, time, motet
        from motet._executor import stopping

        stopping.EXIT_GRACE = 0.5
        executor = motet.Executor("processes", 1, thread_name_prefix="lingerer")
        executor.submit(lambda: (atexit.register(time.sleep, 1000), None)[1]).result(60)
        if not sys.argv[1:]:
            del executor
        """,
        *(["known"] if known else []),
    )
    assert ended.returncode == 0, ended.stderr
    assert "RuntimeWarning: lingerer-1 did not end within 0.5 seconds" in ended.stderr
    assert "Traceback" not in ended.stderr
