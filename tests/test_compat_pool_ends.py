"""motet's `Pool` where calls, workers or programs end badly: where Python's own would hang."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, Left, append, end, is_alive, is_asleep, nap_deaf, wait_until
from motet.compat.pools import Pool, ThreadPool

pytestmark = [
    pytest.mark.thread_unsafe(reason="processes, threads and descriptors are counted"),
    pytest.mark.timeout(240),
]


def test_a_workers_death_costs_one_call() -> None:
    with Pool(1) as pool:
        others = [pool.apply_async(abs, (-number,)) for number in range(5)]
        deadly = pool.apply_async(end, ("killed",))
        others += [pool.apply_async(abs, (-number,)) for number in range(5, 10)]
        with pytest.raises(motet.WorkerDied):
            deadly.get(LIMIT)
        assert [result.get(LIMIT) for result in others] == list(range(10))
    pool.join()


def test_a_failing_initializer_is_told_to_each_call() -> None:
    with Pool(2, int, ("no number",)) as pool:
        with pytest.raises(motet.InitializerFailed) as raised:
            pool.apply_async(abs, (1,)).get(LIMIT)
        assert isinstance(raised.value.__cause__, ValueError)
    pool.join()


def test_functions_travel_by_value() -> None:
    offset = 5
    with Pool(1) as pool:
        assert pool.map(lambda number: number + offset, range(3)) == [5, 6, 7]
        assert list(pool.imap(lambda number: number + offset, range(3))) == [5, 6, 7]
    pool.join()


@pytest.mark.parametrize("deaf", [False, True], ids=["obedient", "deaf"])
def test_results_of_a_terminated_pool_raise(deaf: bool, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def work() -> None:
        append(str(begun), "")
        (nap_deaf if deaf else time.sleep)(600)

    pool = Pool(1)
    running = pool.apply_async(work)
    wait_until(begun.exists)
    queued, mapped = pool.apply_async(abs, (1,)), pool.map_async(abs, range(10))
    iterated = pool.imap(abs, iter(int, 1))
    pool.terminate()
    with pytest.raises(motet.WorkerDied):
        running.get(LIMIT)
    for result in (queued, mapped):
        with pytest.raises(CancelledError):
            result.get(LIMIT)
    with pytest.raises(CancelledError):
        list(iterated)
    pool.join()


def test_items_that_never_come_keep_nobody(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        asked.set()
        assert go_on.wait(LIMIT)
        yield 2

    pool = Pool(1)
    results = pool.imap(abs, items())
    assert next(results) == 1
    assert asked.wait(LIMIT)
    pool.terminate()
    pool.join()
    go_on.set()
    with pytest.raises(CancelledError):
        next(results)


def test_terminating_threads_drops_what_has_not_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go_on.wait(LIMIT)

    pool = ThreadPool(1)
    running, queued = pool.apply_async(work), pool.apply_async(abs, (1,))
    assert begun.wait(LIMIT)
    pool.terminate()
    with pytest.raises(CancelledError):
        queued.get(LIMIT)
    go_on.set()
    pool.join()
    assert running.get(LIMIT) is True


def test_a_callback_that_raises_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1) as pool:
        assert pool.apply_async(abs, (-1,), callback=lambda _: [].pop()).get(LIMIT) == 1
        assert pool.apply(abs, (-2,)) == 2
    pool.join()
    assert "pop from empty list" in caplog.text


def test_a_callback_may_end_the_pool() -> None:
    pool = Pool(1)
    ended = threading.Event()

    def terminate(_: object) -> None:
        pool.terminate()
        ended.set()

    pool.apply_async(abs, (-1,), callback=terminate)
    assert ended.wait(LIMIT)
    pool.join()


def test_pools_leave_nothing() -> None:
    left = Left()
    for _ in range(3):
        with Pool(2) as pool:
            assert list(pool.imap(abs, range(-10, 0))) == list(range(10, 0, -1))
        pool.join()
        with ThreadPool(2) as threads:
            assert list(threads.imap(abs, range(-10, 0))) == list(range(10, 0, -1))
        threads.join()
    left.check()


@pytest.mark.parametrize("kind", ["Pool", "ThreadPool"])
@pytest.mark.parametrize("closed", ["", "pool.close()"])
def test_a_program_ends_without_what_it_does_not_wait_for(
    kind: str, closed: str, run_program: RunProgram
) -> None:
    result = run_program(
        f"""
        import time
        from motet.compat.pools import {kind} as Pool
        pool = Pool(2)
        results = [pool.apply_async(time.sleep, (600,)) for _ in range(10)]
        print(pool.apply_async(abs, (-1,)).ready())
        {closed}
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "False\n", "")


def test_a_forked_child_does_not_end_its_parents_pool(run_program: RunProgram) -> None:
    result = run_program(
        """
        import multiprocessing, warnings
        from motet.compat.pools import Pool
        warnings.simplefilter("ignore", DeprecationWarning)
        with Pool(1) as pool:
            print(pool.apply(abs, (-1,)))
            child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
            child.start()
            child.join()
            print(pool.apply(abs, (-2,)))
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\nchild\n2\n", "")


@pytest.mark.parametrize("wait", ["pool.map(work, [0] * 4)", "list(pool.imap(work, [0] * 4))"])
def test_ctrl_c_ends_the_program_and_its_workers(wait: str, tmp_path: Path) -> None:
    source = f"""
        import os, time
        from motet.compat.pools import Pool

        def work(_):
            print(os.getpid(), flush=True)
            time.sleep(600)

        with Pool(2) as pool:
            {wait}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    workers = [int(process.stdout.readline()) for _ in range(2)]
    wait_until(lambda: is_asleep(process.pid))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
