"""The end of an executor: what becomes of calls, of workers and of its thread."""

from __future__ import annotations

import gc
import signal
import time
from concurrent.futures import BrokenExecutor, Future, wait

import motet
import pytest

PATIENCE = 60.0


def test_shutdown_waits_for_a_call_that_runs() -> None:
    executor = motet.Executor("processes", 2)
    future = executor.submit(time.sleep, 0.5)
    executor.shutdown()
    assert future.result(0) is None


def test_shutdown_returns_when_the_last_call_was_cancelled() -> None:
    executor = motet.Executor("processes", 1)
    executor.submit(int).result(PATIENCE)
    first = executor.submit(time.sleep, 0.3)
    second = executor.submit(int)
    executor.shutdown(wait=False)
    second.cancel()
    executor.shutdown()
    assert first.done()
    assert second.done()


def test_cancel_futures_cancels_what_has_not_begun() -> None:
    executor = motet.Executor("processes", 1)
    executor.submit(int).result(PATIENCE)
    futures = [executor.submit(time.sleep, 0.2) for _ in range(50)]
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    done = [future for future in futures if not future.cancelled()]
    assert len(done) < 30
    assert all(future.exception() is None for future in done)
    # `wait` counts those that were cancelled as done.
    assert not wait(futures, PATIENCE).not_done


@pytest.mark.parametrize("how", ["del", "shutdown"])
def test_an_executor_that_is_let_go_of_ends_by_itself(how: str) -> None:
    executor = motet.Executor("processes", 2)
    results = executor.map(abs, range(-5, 5))
    thread = executor._executor_manager_thread
    workers = executor._processes
    assert thread is not None
    assert workers
    if how == "shutdown":
        executor.shutdown(wait=False)
    del executor
    gc.collect()
    assert sorted(results) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    thread.join(PATIENCE)
    assert not thread.is_alive()
    for worker in workers.values():
        worker.join(PATIENCE)
        assert not worker.is_alive()
        assert worker.exitcode == 0


def test_a_worker_that_was_just_born_can_be_terminated() -> None:
    with motet.Executor("processes", 1, strict=True) as executor:
        future = executor.submit(time.sleep, 600)
        (worker,) = executor._processes.values()
        worker.terminate()
        with pytest.raises(motet.WorkerDied):
            future.result(PATIENCE)
        with pytest.raises(BrokenExecutor):
            executor.submit(int)
    assert worker.exitcode == -signal.SIGTERM


def test_a_strict_pool_gives_each_future_an_exception_of_its_own() -> None:
    with motet.Executor("processes", 1, strict=True) as executor:
        futures: list[Future[None]] = [executor.submit(time.sleep, 600) for _ in range(3)]
        next(iter(executor._processes.values())).kill()
        found = [future.exception(PATIENCE) for future in futures]
    assert all(isinstance(error, motet.WorkerDied) for error in found)
    assert len({id(error) for error in found}) == 3


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_can_be_ended_by_force(how: str) -> None:
    executor = motet.Executor("processes", 1, retries=2)
    futures = [executor.submit(time.sleep, 600) for _ in range(2)]
    (worker,) = executor._processes.values()
    getattr(executor, how)()
    worker.join(PATIENCE)
    assert not wait(futures, PATIENCE).not_done
    with pytest.raises(RuntimeError):
        executor.submit(int)
    executor.shutdown()


def test_chunksize_is_checked() -> None:
    with motet.Executor("processes", 1) as executor:
        assert list(executor.map(abs, [-1, 2], chunksize=2)) == [1, 2]
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(abs, [1], chunksize=0)
