"""`on="auto"`: what executors and mappings choose, why, and that nothing is lost meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, Left, end, nap, wait_until
from motet._executor import auto_workers, pools
from motet._executor.measuring import Costs
from motet._executor.trial import CALLS, judge

pytestmark = [
    pytest.mark.thread_unsafe(reason="starts processes, and replaces what tells of the GIL"),
    pytest.mark.timeout(120),
]

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
needs_gil = pytest.mark.skipif(not HAS_GIL, reason="nothing is measured without a GIL")
MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def no_workers_left() -> Iterator[None]:
    yield
    pools.end_all()


def spin(number: int) -> int:
    return sum(n * n for n in range(number))


def digest(rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", rounds)


def where(_: object = None) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def nap_where(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def spin_where(number: int) -> int:
    spin(number)
    return os.getpid()


def doze(seconds: float) -> None:
    """Sleeps so that threads can be woken."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.005)


def decided(executor: motet.Executor, function: Callable[..., Any], argument: Any) -> str:
    """Gives the executor calls to measure; what it chose."""
    for _ in range(10 * CALLS):
        if "for now" not in executor.decision:
            break
        executor.submit(function, argument).result(LIMIT)
    return executor.decision


# ---- what follows from what ----


def costs(wall: float, cpu: float, looks: int, held: float) -> Costs:
    watched = looks * MS
    return Costs(int(wall * MS), int(cpu * MS), looks, watched, int(held * watched))


@pytest.mark.parametrize(
    ("measured", "workers", "place", "story"),
    [
        (costs(50, 0.5, 100, 0), 2, "threads", "50 ms each, on the processor 1%, with the GIL 0%"),
        (costs(12, 11.9, 3, 0.97), 2, "processes", "12 ms each, on the processor 99%, with the GIL 97%"),
        (costs(2000, 2000, 3, 0.02), 4, "threads", "2 s each, on the processor 100%, with the GIL 2%"),
        (costs(0.0101, 0.01, 0, 0), 2, "processes", "10.1 µs each, on the processor 99%, too short"),
        (costs(0.5, 0.01, 0, 0), 2, "threads", "500 µs each, on the processor 2%, too short"),
        # To wait with the GIL keeps the others waiting too.
        (costs(50, 0.5, 10, 1), 2, "processes", "50 ms each, on the processor 1%, with the GIL 100%"),
        (
            costs(50, 5, 9, 0.1),
            64,
            "processes",
            "50 ms each, on the processor 10%, with the GIL 10%, too much",
        ),
    ],
)
def test_what_follows_from_measurements(measured: Costs, workers: int, place: str, story: str) -> None:
    verdict = judge([measured] * 8, workers, ["f"])
    told = verdict.sentence.replace("were on the processor for", "on the processor")
    told = told.replace(" of it and held the GIL for", ", with the GIL").replace(
        " of it and were too", ", too"
    )
    assert verdict.place == place
    assert told.startswith(f"{place}, because 8 calls of f() took {story}")
    assert Costs.load(measured.dump()) == measured


# ---- executors ----


@needs_gil
@pytest.mark.parametrize(
    ("function", "argument", "place"),
    [
        (nap, 0.01, "threads"),
        (digest, 20_000, "threads"),
        (spin, 300_000, "processes"),
        (abs, 1, "processes"),
    ],
)
def test_the_place_follows_from_the_first_calls(
    function: Callable[..., Any], argument: Any, place: str
) -> None:
    with motet.Executor(max_workers=2) as executor:
        assert executor.decision == (
            "processes for now, because they suit any work, until 8 more calls are measured"
        )
        sentence = decided(executor, function, argument)
        assert sentence.startswith(f"{place}, because ")
        assert f" calls of {function.__name__}() took " in sentence
        assert "% of it" in sentence
        process, thread = executor.submit(where).result(LIMIT)
        assert (process == os.getpid()) == (place == "threads")
        assert thread != threading.get_ident()
        assert bool(executor._threads) == (place == "threads")


@needs_gil
def test_it_says_how_many_calls_it_wants() -> None:
    with motet.Executor(max_workers=1) as executor:
        # The first call of a worker counts for nothing.
        for missing in range(CALLS, 0, -1):
            executor.submit(abs, -1).result(LIMIT)
            assert f"until {missing} more call" in executor.decision
        executor.submit(abs, -1).result(LIMIT)
        assert f"{CALLS} calls of abs() took" in executor.decision


@needs_gil
def test_idle_processes_go_when_threads_are_chosen() -> None:
    with motet.Executor(max_workers=2) as executor:
        assert executor.submit(nap_where, 0.01).result(LIMIT) in executor._processes
        decided(executor, nap, 0.01)
        assert executor.submit(where).result(LIMIT)[0] == os.getpid()
        wait_until(lambda: not executor._processes)
        statistics = executor.statistics()
        assert statistics["submitted"] == statistics["finished"] > CALLS // 2


@pytest.mark.parametrize(("function", "argument"), [(nap_where, 0.002), (spin_where, 1000)])
def test_a_burst_before_the_decision_is_done_in_full(function: Callable[..., Any], argument: Any) -> None:
    with motet.Executor(max_workers=2) as executor:
        first = [executor.submit(function, argument) for _ in range(300)]
        results = [future.result(LIMIT) for future in first]
        then = [executor.submit(function, argument).result(LIMIT) for _ in range(20)]
        statistics = executor.statistics()
    assert (statistics["submitted"], statistics["finished"], statistics["queued"]) == (320, 320, 0)
    here = os.getpid()
    assert (here in results) == (not HAS_GIL)
    assert (here in then) == (not HAS_GIL or function is nap_where)


def test_calls_that_raise_are_measured_and_raise() -> None:
    def fail(number: int) -> None:
        raise LookupError(number)

    with motet.Executor(max_workers=2) as executor:
        for number in range(20):
            with pytest.raises(LookupError, match=str(number)) as raised:
                executor.submit(fail, number).result(LIMIT)
            # Nobody but motet is to know who has called.
            assert "measuring" not in str(raised.value.__cause__)
        assert "8 calls of fail() took" in executor.decision or not HAS_GIL


@needs_gil
def test_what_cannot_be_sent_runs_on_threads_until_something_is_decided() -> None:
    lock = threading.Lock()
    with motet.Executor(max_workers=1) as executor:
        assert executor.submit(abs, -1).result(LIMIT) == 1
        assert executor.submit(lambda: lock.acquire(False)).result(LIMIT)
        assert lock.locked()
        assert executor.decision.startswith(
            "threads, because a call of <lambda>() cannot be sent to a process: "
        )
        assert executor.submit(where).result(LIMIT)[0] == os.getpid()
    with motet.Executor(max_workers=1) as executor:
        assert decided(executor, abs, -1).startswith("processes")
        with pytest.raises(motet.NotShippable):
            executor.submit(lock.acquire).result(LIMIT)


@needs_gil
def test_a_call_that_loses_its_worker_is_no_measurement() -> None:
    with motet.Executor(max_workers=1) as executor:
        for how in ("exit", "kill"):
            with pytest.raises(motet.WorkerDied):
                executor.submit(end, how).result(LIMIT)
        assert "until 8 more calls" in executor.decision
        assert decided(executor, spin, 1000).startswith("processes, because 8 calls took ")


@needs_gil
def test_cancelled_calls_are_replaced_by_others() -> None:
    with motet.Executor(max_workers=1) as executor:
        futures = [executor.submit(nap, 60) for _ in range(2 * CALLS)]
        wait_until(futures[0].running)
        for future in futures[1:]:
            assert future.cancel()
        assert futures[0].cancel(kill=True)
        with pytest.raises(CancelledError):
            futures[0].result(LIMIT)
        assert decided(executor, nap, 0.01).startswith("threads")


@needs_gil
def test_options_hold_while_calls_are_measured(tmp_path: Path) -> None:
    with motet.Executor(max_workers=1) as executor:
        with pytest.raises(motet.CallTimeout, match="short"):
            executor.options(timeout=0.1, name="short").submit(time.sleep, 60).result(LIMIT)

        def fail_once(path: Path) -> str:
            if not path.exists():
                path.touch()
                raise LookupError
            return "well"

        assert executor.options(retries=1).submit(fail_once, tmp_path / "tried").result(LIMIT) == "well"


@needs_gil
def test_a_measured_call_may_fork_and_sees_no_other_thread() -> None:
    def fork() -> tuple[int, int, int]:
        import warnings

        count = threading.active_count()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            child = os.fork()
            if child == 0:
                os._exit(5)
        return os.getpid(), count, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    with motet.Executor(max_workers=1) as executor:
        ended = []
        # It waits for children most of the time, so threads may be chosen for the rest.
        while "for now" in executor.decision:
            ended.append(executor.submit(fork).result(LIMIT))
    assert ended
    assert os.getpid() not in {worker for worker, _, _ in ended}
    assert {(count, status) for _, count, status in ended} == {(1, 5)}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"memory_limit": 1 << 40}, "memory_limit is"),
        ({"max_tasks_per_child": 1000}, "max_tasks_per_child is"),
        ({"strict": True}, "strict is"),
        ({"tag_output": True}, "tag_output is"),
        ({"threads_per_worker": 0}, "threads_per_worker is"),
        ({"preload": ["json"]}, "preload is"),
        ({"initializer": int, "strict": True}, "strict and initializer are"),
    ],
)
def test_options_of_processes_choose_them(options: dict[str, Any], named: str) -> None:
    with motet.Executor("auto", 1, **options) as executor:
        assert executor.decision == f"processes, because {named} for them"
        assert executor.submit(where).result(LIMIT)[0] != os.getpid()
    if "preload" not in options:
        with pytest.raises(
            ValueError, match=f"^{named.replace(' and initializer are', ' is')} for on='processes'"
        ):
            motet.Executor("threads", 1, **options)


def test_threads_import_what_is_to_be_preloaded(run_program: RunProgram) -> None:
    program = """
        import sys, motet
        motet.Executor("threads", preload=["colorsys", "no_such_module"])
        print("colorsys" in sys.modules)
    """
    assert run_program(program).stdout == "True\n"


# ---- without a GIL ----


@pytest.mark.skipif(HAS_GIL, reason="this Python has a GIL")
def test_without_a_gil_threads_are_chosen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with motet.Executor(max_workers=2) as executor:
        assert executor.decision.startswith("threads, because this Python runs them in parallel")
        assert executor.submit(where).result(LIMIT)[0] == os.getpid()
        assert not executor._processes
        # As if an extension module that wants the GIL had been imported.
        monkeypatch.setattr(auto_workers, "has_gil", lambda: True)
        assert executor.submit(where).result(LIMIT)[0] != os.getpid()
        assert "until 8 more calls are measured" in executor.decision


# ---- coroutine functions ----


async def double(number: int, *, seconds: float = 0.001) -> int:
    await asyncio.sleep(seconds)
    return 2 * number


def test_coroutine_functions_run_on_a_loop() -> None:
    motet.run(double(1))
    left = Left()
    with motet.Executor() as executor:
        futures = [executor.submit(double, number) for number in range(200)]
        assert [future.result(LIMIT) for future in futures] == [2 * number for number in range(200)]
        assert executor.decision == "an event loop, because double() is a coroutine function"
        statistics = executor.statistics()
        assert (statistics["submitted"], statistics["finished"]) == (200, 200)
        assert executor.submit(abs, -1).result(LIMIT) == 1
        assert executor.decision.endswith("; coroutine functions run on an event loop")
    left.check()


def test_calls_on_the_loop_are_stopped_limited_and_tried_again() -> None:
    attempts = 0

    async def fail_once() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise LookupError
        return "well"

    async def fail(kind: type[BaseException]) -> None:
        raise kind("on purpose")

    with motet.Executor(max_workers=1) as executor:
        begun = executor.submit(double, 1, seconds=60)
        waiting = executor.submit(double, 2)
        wait_until(begun.running)
        assert not begun.cancel()
        assert waiting.cancel()
        assert begun.cancel(kill=True)
        with pytest.raises(CancelledError):
            begun.result(LIMIT)
        with pytest.raises(motet.CallTimeout, match=r"nap \(double\) ran longer than 0.05 seconds"):
            executor.options(timeout=0.05, name="nap").submit(double, 1, seconds=60).result(LIMIT)
        assert executor.options(retries=1).submit(fail_once).result(LIMIT) == "well"
        for kind in (LookupError, SystemExit, KeyboardInterrupt):
            with pytest.raises(kind, match="on purpose"):
                executor.submit(fail, kind).result(LIMIT)
        assert executor.submit(double, 4).result(LIMIT) == 8


def test_a_task_that_is_cancelled_takes_its_call_on_the_loop_along() -> None:
    ended = threading.Event()

    async def sleep() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def main(executor: motet.Executor) -> int:
        call = executor.submit(sleep)
        waiting = asyncio.Event()

        async def wait_for_it() -> None:
            waiting.set()
            await call

        task = asyncio.create_task(wait_for_it())
        await asyncio.to_thread(wait_until, call.running)
        # A task that is cancelled before it has begun waits for nothing.
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await executor.submit(double, 4)

    with motet.Executor() as executor:
        assert asyncio.run(main(executor)) == 8
        assert ended.wait(LIMIT)


def test_shutdown_waits_for_the_loop_or_stops_it() -> None:
    with motet.Executor(max_workers=1) as executor:
        futures = [executor.submit(double, number, seconds=0.01) for number in range(5)]
        executor.shutdown(wait=False)
        with pytest.raises(RuntimeError):
            executor.submit(double, 1)
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8]

    executor = motet.Executor(max_workers=1)
    begun, waiting = (executor.submit(double, 1, seconds=60) for _ in range(2))
    wait_until(begun.running)
    executor.shutdown(kill=True)
    assert begun.cancelled()
    assert waiting.cancelled()


@pytest.mark.parametrize("make", [lambda: double, lambda: lambda: double(1)])
def test_a_worker_process_awaits_nothing_and_says_so(make: Callable[[], Any]) -> None:
    function = make()
    with motet.Executor("processes", 1) as executor:
        future = executor.submit(function, 1) if function is double else executor.submit(function)
        with pytest.raises(TypeError, match=r"^double\(\) is a coroutine function.*Executor\('auto'\)"):
            future.result(LIMIT)


# ---- ends ----


def test_shutdown_in_the_trial_loses_nothing() -> None:
    left = Left()
    for count in (0, 1, CALLS, 50):
        executor = motet.Executor(max_workers=2)
        futures = [executor.submit(nap, 0.002) for _ in range(count)]
        executor.shutdown()
        assert [future.result(0) for future in futures] == [0.002] * count
        with pytest.raises(RuntimeError):
            executor.submit(nap, 0)
    left.check()


def test_shutdown_ends_both_places() -> None:
    left = Left()
    executor = motet.Executor(max_workers=2)
    decided(executor, nap, 0.01)
    slow = [executor.submit(doze, 600) for _ in range(5)]
    wait_until(slow[0].running)
    executor.shutdown(kill=True)
    assert all(future.cancelled() for future in slow)
    left.check()


@needs_gil
def test_calls_that_were_sent_to_processes_end_there_after_the_decision() -> None:
    left = Left()
    with motet.Executor(max_workers=2) as executor:
        early = executor.submit(nap_where, 1)
        assert decided(executor, nap, 0.02).startswith("threads")
        late = executor.submit(nap_where, 0)
        assert late.result(LIMIT) == os.getpid()
        assert early.result(LIMIT) != os.getpid()
    left.check()


@needs_gil
def test_a_shutdown_after_the_decision_stops_both_places() -> None:
    left = Left()
    executor = motet.Executor(max_workers=2)
    early = executor.submit(nap, 600)
    assert decided(executor, nap, 0.02).startswith("threads")
    late = executor.submit(doze, 600)
    wait_until(late.running)
    executor.shutdown(kill=True)
    assert early.cancelled()
    assert late.cancelled()
    left.check()


@needs_gil
def test_ctrl_c_in_the_trial_stops_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import motet, time\n"
        "with motet.Executor(max_workers=2) as executor:\n"
        "    futures = [executor.submit(time.sleep, 600) for _ in range(5)]\n"
        "    while not futures[0].running(): time.sleep(0.001)\n"
        "    print('sleeping', flush=True)\n"
        "    futures[0].result()\n"
    )
    process = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sleeping\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT)
    assert errors.count("KeyboardInterrupt") == 1
    assert process.returncode == -signal.SIGINT


def test_an_executor_that_nobody_shuts_down_does_its_work(run_program: RunProgram) -> None:
    program = """
        import asyncio, motet, time

        async def wait():
            await asyncio.sleep(0.01)
            print("waited\\n", end="")

        def nap():
            time.sleep(0.01)
            print("slept\\n", end="")

        executor = motet.Executor(max_workers=2)
        executor.submit(wait)
        for _ in range(12):
            executor.submit(nap)
        executor.submit(nap).result()
        executor.submit(nap)
    """
    done = run_program(program)
    assert (sorted(done.stdout.split()), done.stderr) == (["slept"] * 14 + ["waited"], "")


def test_workers_are_ended_by_force_only_where_that_is_possible() -> None:
    executor = motet.Executor(max_workers=1)
    if HAS_GIL:
        future = executor.submit(nap, 60)
        executor.kill_workers()
        assert not wait([future], LIMIT).not_done
        assert future.cancelled() or isinstance(future.exception(), motet.WorkerDied)
    else:
        executor.submit(nap, 0).result(LIMIT)
        with pytest.raises(TypeError, match="threads cannot be ended by force"):
            executor.kill_workers()
    executor.shutdown()


# ---- mappings ----


@needs_gil
@pytest.mark.parametrize(("function", "argument"), [(nap_where, 0.005), (spin_where, 100_000)])
def test_a_mapping_chooses_for_itself(function: Callable[..., Any], argument: Any) -> None:
    for _ in range(2):
        found = list(motet.map(function, [argument] * 100, workers=2))
        assert len(found) == 100
        assert found[0] != os.getpid()
        assert (found[-1] == os.getpid()) == (function is nap_where)


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_a_mapping_that_moves_loses_nothing(chunk: int | None) -> None:
    def identity(number: int) -> int:
        time.sleep(0.0005)
        return number

    assert list(motet.map(identity, range(500), workers=2, chunk=chunk)) == list(range(500))
    found = list(motet.map(identity, range(500), workers=2, chunk=chunk, ordered=False))
    assert sorted(found) == list(range(500))
    timed = list(motet.map(identity, range(100), workers=2, timeout=LIMIT))
    assert timed == list(range(100))


def test_a_mapping_of_what_cannot_be_sent_runs_on_threads() -> None:
    lock = threading.Lock()

    def guarded(number: int) -> int:
        with lock:
            return number

    assert list(motet.map(guarded, range(50), workers=2)) == list(range(50))
    locks = [threading.Lock() for _ in range(50)]
    assert list(motet.map(lambda lock: lock.locked(), [*range(1), *locks][1:], workers=2)) == [False] * 50


def test_a_mapping_with_an_initializer_stays_in_processes() -> None:
    prepared: list[str] = []

    def prepare() -> None:
        prepared.append("ready")

    found = motet.map(
        lambda _: (time.sleep(0.005), os.getpid())[1], range(30), workers=1, initializer=prepare
    )
    assert os.getpid() not in set(found)
    assert prepared == []
