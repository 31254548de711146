"""Much to do: a dispatcher that sleeps for several results at a time loses no call, limit or end."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, append, nap, wait_until

pytestmark = pytest.mark.thread_unsafe(reason="each starts processes")


def warm_up(executor: motet.Executor) -> None:
    """Has as many calls end as tell how long one takes usually: workers then get several ahead."""
    for future in [executor.submit(nap, 0.002) for _ in range(50)]:
        future.result(LIMIT)


def test_others_do_what_waits_behind_a_call_that_takes_long() -> None:
    ended: list[int] = []
    with motet.Executor("processes", 2) as executor:
        # As many as tell how long a call takes usually: workers then get several ahead.
        for future in [executor.submit(nap, 0.002) for _ in range(50)]:
            future.result(LIMIT)
        futures = [executor.submit(nap, 0.002) for _ in range(8)]
        futures += [executor.submit(nap, 1)]
        futures += [executor.submit(nap, 0.002) for _ in range(391)]
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: ended.append(number))  # type: ignore[misc]
    assert sorted(ended) == list(range(400))
    places = {number: place for place, number in enumerate(ended)}
    # What came right behind the long call is not kept for its end, when the other worker has done the rest.
    assert max(places[number] for number in range(9, 29)) < 200


def test_what_an_executor_says_of_itself() -> None:
    with motet.Executor("threads", 2) as executor:
        assert repr(executor) == "<Executor on='threads' max_workers=2>"
    assert repr(executor) == "<Executor on='threads' max_workers=2 shutdown>"


def test_a_limit_holds_for_what_was_taken_back() -> None:
    with motet.Executor("processes", 2) as executor:
        warm_up(executor)
        limited = executor.options(timeout=0.3)
        long = [limited.submit(nap, LIMIT) for _ in range(2)]
        brief = [executor.options(timeout=LIMIT).submit(nap, 0.002) for _ in range(200)]
        late = limited.submit(nap, LIMIT)
        for future in (*long, late):
            with pytest.raises(motet.CallTimeout):
                future.result(LIMIT)
        assert [future.result(LIMIT) for future in brief] == [0.002] * 200


def test_calls_that_are_taken_back_are_done_once_by_workers_that_are_replaced() -> None:
    def work(seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    with motet.Executor("processes", 2, max_tasks_per_child=30) as executor:
        futures = [executor.submit(work, 0.3 if number % 40 == 0 else 0.002) for number in range(200)]
        done_by = [future.result(LIMIT) for future in futures]
    counts = [done_by.count(worker) for worker in set(done_by)]
    # None does more than it may; nearly none less, though calls were taken back from it.
    assert max(counts) == 30
    assert len(counts) <= 10
    assert sum(counts) == 200


@pytest.mark.parametrize("backwards", [False, True])
def test_cancelling_while_much_waits(backwards: bool) -> None:
    with motet.Executor("processes", 2) as executor:
        warm_up(executor)
        futures = [executor.submit(nap, 0.002) for _ in range(300)]
        futures[20].result(LIMIT)
        chosen = futures[:20:-3] if backwards else futures[20::3]
        cancelled = {future for future in chosen if future.cancel()}
        assert cancelled
        for future in futures:
            if future not in cancelled:
                assert future.result(LIMIT) == 0.002
        assert all(future.cancelled() for future in cancelled)
        assert executor.statistics()["queued"] == 0


def test_who_logs_in_a_long_call_keeps_nothing_waiting(tmp_path: Path) -> None:
    enough = tmp_path / "enough"

    def log() -> None:
        while not enough.exists():
            logging.getLogger("dozing").debug("still at it")
            time.sleep(0.001)

    with motet.Executor("processes", 2) as executor:
        warm_up(executor)
        long = executor.submit(log)
        for future in [executor.submit(nap, 0.002) for _ in range(200)]:
            future.result(LIMIT)
        enough.touch()
        long.result(LIMIT)


def test_a_call_that_cannot_be_sent_while_the_dispatcher_sleeps(run_program: RunProgram) -> None:
    ended = run_program("""
        import time, motet, numpy

        motet.set_arena_limit(8 << 20)
        with motet.Executor("processes", 1) as executor:
            executor.submit(len, b"").result(60)
            for _ in range(3):
                time.sleep(0.2)
                error = executor.submit(len, numpy.ones(9 << 20, "uint8")).exception(60)
                assert isinstance(error, motet.ArgumentTooLarge), error
            assert executor.submit(len, b"abc").result(60) == 3
        print("done")
    """)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_a_worker_that_begins_slowly_keeps_nothing_waiting(tmp_path: Path) -> None:
    begun, enough = tmp_path / "begun", tmp_path / "enough"

    def initialize() -> None:
        if append(str(begun), "one more") > 2:
            wait_until(enough.exists)

    with motet.Executor("processes", 2, initializer=initialize) as executor:
        warm_up(executor)
        wait_until(lambda: begun.read_text().count("\n") == 2)
        with pytest.raises(motet.WorkerDied):
            executor.submit(os._exit, 3).result(LIMIT)
        # The other worker does all of it.
        for future in [executor.submit(nap, 0.002) for _ in range(100)]:
            future.result(LIMIT)
        enough.touch()
