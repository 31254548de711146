"""Calls that are stopped: by their time, by a cancellation, by the end of their executor."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import motet
import pytest
from conftest import MakeLoop
from executor_helpers import LIMIT, append, is_alive, nap, nap_deaf, wait_until, warm

pytestmark = pytest.mark.thread_unsafe(reason="ends processes")


def nap_in_c(seconds: float) -> None:
    ctypes.CDLL(None).sleep(int(seconds))


class Thing:
    pass


def nap_where_nothing_can_be_raised(seconds: float, path: str) -> None:
    """Naps in a callback whose exceptions go nowhere, then anywhere else."""
    thing = Thing()

    def nap_last(_: object) -> None:
        append(path, "begun")
        time.sleep(seconds)

    reference = weakref.ref(thing, nap_last)
    del thing
    assert reference() is None
    time.sleep(seconds)


def nap_stubbornly(seconds: float) -> None:
    for _ in range(100):
        try:
            nap(seconds)
        except BaseException:
            continue


@pytest.mark.parametrize("function", [nap, nap_in_c, nap_deaf, nap_stubbornly])
def test_the_time_is_up(function: Callable[[float], object]) -> None:
    with motet.Executor("processes", 1) as executor:
        future = executor.options(timeout=0.05, name="a nap").submit(function, LIMIT)
        after = executor.submit(pow, 3, 2)
        with pytest.raises(
            motet.CallTimeout, match=f"a nap .*{function.__name__}.* ran longer than 0.05 seconds"
        ):
            future.result(LIMIT)
        assert after.result(LIMIT) == 9


def test_the_time_counts_from_the_calls_beginning() -> None:
    with motet.Executor("processes", 1, timeout=5) as executor:
        futures = [executor.submit(nap, 0.01) for _ in range(20)]
        assert [future.result(LIMIT) for future in futures] == [0.01] * 20


@pytest.mark.parametrize("limit", [1e-9, 1e12])
def test_extreme_limits(limit: float) -> None:
    with motet.Executor("processes", 1) as executor:
        future = executor.options(timeout=limit).submit(nap, 0.2)
        if limit < 1:
            with pytest.raises(motet.CallTimeout):
                future.result(LIMIT)
        else:
            assert future.result(LIMIT) == 0.2


def test_what_takes_too_long_is_tried_again(tmp_path: Path) -> None:
    def work() -> int:
        attempt = append(str(tmp_path / "attempts"), "an attempt")
        nap(LIMIT if attempt < 3 else 0)
        return attempt

    with motet.Executor("processes", 1) as executor:
        assert executor.options(timeout=0.3, retries=5).submit(work).result(LIMIT) == 3


@pytest.mark.parametrize("function", [nap, nap_deaf])
def test_a_running_call_is_cancelled_by_force_only(function: Callable[[float], object]) -> None:
    with motet.Executor("processes", 1) as executor:
        future = executor.options(retries=3).submit(function, LIMIT)
        after = executor.submit(pow, 3, 2)
        wait_until(future.running)
        assert not future.cancel()
        assert future.cancel(kill=True)
        with pytest.raises(CancelledError):
            future.result(LIMIT)
        assert after.result(LIMIT) == 9


def test_a_call_is_stopped_in_what_cannot_raise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calls"
    with motet.Executor("processes", 1) as executor:
        worker = executor.submit(os.getpid).result(LIMIT)
        future = executor.submit(nap_where_nothing_can_be_raised, LIMIT, str(path))
        wait_until(path.exists)
        assert future.cancel(kill=True)
        with pytest.raises(CancelledError):
            future.result(LIMIT)
        assert executor.submit(os.getpid).result(LIMIT) == worker
    assert capfd.readouterr().err == ""


def test_a_call_that_has_not_begun_never_begins(tmp_path: Path) -> None:
    path = str(tmp_path / "lines")
    with motet.Executor("processes", 1) as executor:
        first = executor.submit(nap, 0.2)
        others = [executor.submit(append, path, str(number)) for number in range(20)]
        wait_until(first.running)
        assert all(other.cancel() for other in others[::2])
        assert all(other.cancelled() for other in others[::2])
    assert Path(path).read_text().splitlines() == [str(number) for number in range(1, 20, 2)]


def test_a_cancelled_task_stops_the_call_that_it_awaits(make_loop: MakeLoop) -> None:
    async def main() -> None:
        with motet.Executor("processes", 1) as executor:
            future = executor.submit(nap, LIMIT)

            async def wait_for_it() -> None:
                await future

            task = asyncio.create_task(wait_for_it())
            # A task that has not begun waits for nothing.
            await asyncio.sleep(0)
            while not future.running():  # noqa: ASYNC110, nothing tells of it
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(executor.shutdown)
            assert future.cancelled()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


def test_shutdown_with_force() -> None:
    executor = motet.Executor("processes", 2)
    running = [executor.submit(nap, LIMIT), executor.options(retries=5).submit(nap_deaf, LIMIT)]
    waiting = [executor.submit(nap, LIMIT) for _ in range(5)]
    wait_until(lambda: all(future.running() for future in running))
    executor.shutdown(kill=True)
    assert all(future.cancelled() for future in running + waiting)


def test_shutdown_with_force_before_anything_has_begun() -> None:
    for _ in range(10):
        executor = motet.Executor("processes", 2)
        futures = [executor.submit(nap, LIMIT) for _ in range(3)]
        executor.shutdown(kill=True)
        assert all(future.cancelled() for future in futures)


def test_shutdown_with_force_while_an_initializer_runs(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    executor = motet.Executor("processes", 1, initializer=lambda: (append(str(begun), ""), nap_deaf(LIMIT)))
    future = executor.submit(nap, LIMIT)
    wait_until(begun.exists)
    executor.shutdown(kill=True)
    assert future.cancelled()


def test_shutdown_that_cancels_lets_the_running_call_end() -> None:
    executor = motet.Executor("processes", 1)
    running = executor.submit(nap, 0.2)
    waiting = [executor.submit(nap, LIMIT) for _ in range(5)]
    wait_until(running.running)
    executor.shutdown(cancel_futures=True)
    assert running.result(0) == 0.2
    assert all(future.cancelled() for future in waiting)


def test_what_a_call_has_started_ends_with_its_worker() -> None:
    def work() -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        child.wait()

    with motet.Executor("processes", 1) as executor:
        worker = next(iter(warm(executor, 1)))
        future = executor.submit(work)
        children = Path(f"/proc/{worker}/task/{worker}/children")
        wait_until(lambda: children.read_text().split())
        child = int(children.read_text())
        os.kill(worker, 9)
        with pytest.raises(motet.WorkerDied):
            future.result(LIMIT)
        wait_until(lambda: not is_alive(child))


def test_a_limit_holds_while_the_dispatcher_sleeps() -> None:
    with motet.Executor("processes", 1) as executor:
        # Its function is known, and nothing else wakes whoever looks after time limits.
        assert executor.submit(nap, 0.01).result(LIMIT) == 0.01
        for limit in (0.3, 0.1):
            time.sleep(0.2)
            with pytest.raises(motet.CallTimeout):
                executor.options(timeout=limit).submit(nap, LIMIT).result(LIMIT / 2)
