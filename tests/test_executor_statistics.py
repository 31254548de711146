"""`Executor.statistics()`: every figure against one that is known otherwise."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import motet
import pytest
from executor_helpers import LIMIT, nap, wait_until

numpy = pytest.importorskip("numpy")

MIB = 1 << 20


def give(array: Any, text: str) -> Any:
    return array + len(text) % 2


def test_bytes_that_are_copied_and_shared() -> None:
    array = numpy.ones(MIB, "uint8")
    with motet.Executor("processes", 1) as executor:
        before = executor.statistics()
        assert before["bytes_copied"] == before["bytes_shared"] == {"to_workers": 0, "from_workers": 0}
        for _ in range(10):
            assert executor.submit(give, array, "x" * 5000).result(LIMIT)[0] == 1
        after = executor.statistics()
        assert after["bytes_shared"] == {"to_workers": 10 * MIB, "from_workers": 10 * MIB}
        # The texts, and of each array what its pickle says beside the bytes; the function once.
        assert 50_000 < after["bytes_copied"]["to_workers"] < 60_000
        assert 0 < after["bytes_copied"]["from_workers"] < 5000
        # To the byte: a plain result, and an exact pickle the other way.
        executor.submit(bytes, 7).result(LIMIT)
        before = executor.statistics()["bytes_copied"]
        assert executor.submit(bytes, 3000).result(LIMIT) == bytes(3000)
        after = executor.statistics()["bytes_copied"]
        assert after["from_workers"] - before["from_workers"] == len(pickle.dumps(bytes(3000), 5))
        assert after["to_workers"] - before["to_workers"] == len(pickle.dumps((3000,), 5))


def test_what_went_through_a_dead_worker_still_counts() -> None:
    with motet.Executor("processes", 1) as executor:
        assert executor.submit(give, numpy.ones(MIB, "uint8"), "").result(LIMIT).size == MIB
        before = executor.statistics()
        (first,) = before["per_worker"]
        assert (first["finished"], first["restarts"]) == (1, 0)
        executor.submit(os.getpid).result(LIMIT)
        for count in (1, 2):
            assert isinstance(executor.submit(os._exit, 3).exception(LIMIT), motet.WorkerDied)
            pid = executor.submit(os.getpid).result(LIMIT)
            # A worker may answer before its birth is told.
            wait_until(lambda: rows(executor)[0]["pid"])
            after = executor.statistics()
            (row,) = after["per_worker"]
            assert (row["pid"], row["finished"], row["restarts"]) == (pid, 1, count)
            assert (after["restarts"], after["finished"]) == (count, 2 + count)
        assert after["bytes_shared"] == before["bytes_shared"]
        assert after["busy_nanos"] >= before["busy_nanos"]


def rows(executor: motet.Executor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = executor.statistics()["per_worker"]
    assert all(0 <= row["busy_share"] <= 1 for row in found)
    return found


@pytest.mark.parametrize("place", ["processes", "threads"])
def test_each_worker_has_its_row(place: Any) -> None:
    with motet.Executor(place, 2, thread_name_prefix="row") as executor:
        assert rows(executor) == []
        long = executor.submit(nap, 0.5)
        futures = [executor.submit(nap, 0.01) for _ in range(20)]
        assert [future.result(LIMIT) for future in futures] == [0.01] * 20
        assert long.result(LIMIT) == 0.5
        # A thread says of itself that it has ended a call only after its future does.
        wait_until(lambda: sum(row["finished"] for row in rows(executor)) == 21)
        found = rows(executor)
        assert len(found) == executor.statistics()["workers"] == 2
        assert all(row["name"].startswith("row") for row in found)
        assert any(row["busy_share"] > 0 for row in found)


def test_a_busy_share_grows_while_a_call_runs() -> None:
    with motet.Executor("processes", 1) as executor:
        executor.submit(int).result(LIMIT)
        running = executor.submit(nap, 600)
        # The first call took no time to speak of.
        wait_until(lambda: rows(executor)[0]["busy_share"] > 0.1)
        assert not running.done()
        executor.shutdown(kill=True)


def test_a_busy_share_of_a_thread_is_what_it_has_not_waited() -> None:
    release = threading.Event()
    with motet.Executor("threads", 1) as executor:
        running = executor.submit(release.wait, LIMIT)
        wait_until(running.running)
        (row,) = rows(executor)
        assert row["busy_share"] == 1
        release.set()
        assert running.result(LIMIT)
        wait_until(lambda: rows(executor)[0]["busy_share"] < 1)
