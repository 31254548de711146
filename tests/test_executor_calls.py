"""What calls of an executor take, return, raise and print."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import RunProgram
from executor_helpers import LIMIT, append, nap, wait_until
from motet._executor.functions import MEANINGS_KEPT

pytestmark = pytest.mark.thread_unsafe(reason="each starts processes")


class Unpicklable(Exception):
    """Cannot be sent, and says so loudly."""

    def __reduce__(self) -> Any:
        raise SystemExit("not me")


class EndsUnpickling(Exception):
    """Ends whoever makes it again."""

    def __reduce__(self) -> Any:
        return sys.exit, ("made again",)


def test_closures_and_lambdas() -> None:
    offset = 10

    def add(number: int) -> int:
        return number + offset

    with motet.Executor("processes", 2) as executor:
        assert executor.submit(add, 1).result(LIMIT) == 11
        assert executor.submit(lambda number, *, factor: number * factor, 2, factor=3).result(LIMIT) == 6
        assert list(executor.map(lambda number: number**2, range(100))) == [n**2 for n in range(100)]


class Counted:
    """Knows how many of its kind are in a worker."""

    alive = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Counted.alive += 1

    def __del__(self) -> None:
        Counted.alive -= 1


def count_alive() -> int:
    return Counted.alive


def test_workers_forget_functions_that_nobody_calls_any_more() -> None:
    def function_of(counted: Counted) -> Callable[[], int]:
        return lambda: counted.number

    with motet.Executor("processes", 1) as executor:
        numbers = range(2 * MEANINGS_KEPT)
        futures = [executor.submit(function_of(Counted(number))) for number in numbers]
        assert [future.result(LIMIT) for future in futures] == list(numbers)
        # With a new function, the last ones that are given up are told of.
        assert executor.submit(lambda: 1).result(LIMIT) == 1
        assert 0 < executor.submit(count_alive).result(LIMIT) <= MEANINGS_KEPT


def test_an_exception_comes_with_its_traceback() -> None:
    def fail() -> None:
        raise ValueError("it failed")

    with motet.Executor("processes", 1) as executor:
        with pytest.raises(ValueError, match="it failed") as caught:
            executor.submit(fail).result(LIMIT)
        assert 'raise ValueError("it failed")' in str(caught.value.__cause__)


def test_exceptions_that_cannot_be_sent_or_made_again() -> None:
    def fail(kind: type[BaseException]) -> None:
        raise kind("it failed")

    with motet.Executor("processes", 1) as executor:
        with pytest.raises(motet.RemoteError, match="it failed"):
            executor.submit(fail, Unpicklable).result(LIMIT)
        with pytest.raises(SystemExit):
            executor.submit(fail, EndsUnpickling).result(LIMIT)
        with pytest.raises(SystemExit):
            executor.submit(sys.exit, 3).result(LIMIT)
        assert executor.submit(int).result(LIMIT) == 0


def test_what_cannot_be_sent_is_told() -> None:
    with motet.Executor("processes", 1) as executor:
        with pytest.raises(motet.NotShippable):
            executor.submit(id, threading.Lock()).result(LIMIT)
        with pytest.raises(motet.NotShippable):
            executor.submit(threading.Lock).result(LIMIT)
        assert executor.submit(int).result(LIMIT) == 0


def test_an_attempt_that_raises_is_tried_again(tmp_path: Path) -> None:
    def work() -> int:
        attempt = append(str(tmp_path / "attempts"), "an attempt")
        if attempt < 3:
            raise OSError("not yet")
        return attempt

    with motet.Executor("processes", 1) as executor:
        assert executor.options(retries=2).submit(work).result(LIMIT) == 3
        (tmp_path / "attempts").unlink()
        with pytest.raises(OSError, match="not yet"):
            executor.options(retries=1).submit(work).result(LIMIT)


def test_large_arguments_and_results() -> None:
    data = os.urandom(1 << 20) * 100
    with motet.Executor("processes", 1) as executor:
        assert executor.submit(bytes.__len__, data).result(LIMIT) == len(data)
        assert executor.submit(bytes, len(data)).result(LIMIT) == bytes(len(data))
        assert executor.submit(bytes.upper, data).result(LIMIT) == data.upper()


def test_a_worker_is_like_the_program_at_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOR_WORKERS", "yes")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with motet.Executor("processes", 1) as executor:
        assert executor.submit(os.getcwd).result(LIMIT) == str(tmp_path)
        assert executor.submit(os.environ.get, "FOR_WORKERS").result(LIMIT) == "yes"
        assert executor.submit(lambda: sys.path).result(LIMIT) == sys.path
        assert executor.submit(os.readlink, "/proc/self/fd/0").result(LIMIT) == os.devnull


@pytest.mark.parametrize("tagged", [False, True])
def test_what_is_printed_arrives_in_whole_lines(capfd: pytest.CaptureFixture[str], tagged: bool) -> None:
    def speak(number: int) -> None:
        print(f"line {number} " + "x" * 2000)
        print(f"complaint {number}", file=sys.stderr)

    with motet.Executor("processes", 2, tag_output=tagged) as executor:
        list(executor.map(speak, range(200)))
        executor.submit(print, "no end", end="").result(LIMIT)
    out, errors = capfd.readouterr()
    lines = out.splitlines()
    begins = ["[motet-1] ", "[motet-2] "] if tagged else [""]
    expected = {f"{begin}line {number} " + "x" * 2000 for number in range(200) for begin in begins}
    assert len(lines) == 201
    assert sum(line in expected for line in lines) == 200
    assert sum("no end" in line for line in lines) == 1
    assert len(errors.splitlines()) == 200


def test_a_line_without_end_that_is_long(capfd: pytest.CaptureFixture[str]) -> None:
    with motet.Executor("processes", 1) as executor:
        executor.submit(lambda: print("é" * 3_000_000, end="")).result(LIMIT)
    assert capfd.readouterr().out == "é" * 3_000_000


def test_what_is_logged_arrives(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        try:
            int("x")
        except ValueError:
            logging.getLogger("of.a.worker").exception("not %s", "a number", extra={"odd": threading.Lock()})

    caplog.set_level(logging.INFO)
    with motet.Executor("processes", 1) as executor:
        executor.submit(work).result(LIMIT)
        wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.name == "of.a.worker"
    assert record.getMessage() == "not a number"
    assert "invalid literal" in caplog.text


def test_callbacks_submit_again() -> None:
    ended = threading.Event()
    seen: list[int] = []
    with motet.Executor("processes", 2) as executor:

        def go_on(future: Future[int]) -> None:
            seen.append(future.result())
            if len(seen) == 300:
                ended.set()
            else:
                executor.submit(pow, len(seen), 2).add_done_callback(go_on)

        executor.submit(pow, 0, 2).add_done_callback(go_on)
        assert ended.wait(LIMIT)
    assert seen == [number**2 for number in range(300)]


def test_callbacks_that_raise_keep_nobody_from_anything(run_program: RunProgram) -> None:
    ended = run_program("""
        import motet
        with motet.Executor("processes", 2) as executor:
            def fail(future):
                raise SystemExit("from a callback")
            futures = [executor.submit(pow, number, 2) for number in range(200)]
            for future in futures[::3]:
                future.add_done_callback(fail)
            print(sum(future.result(30) for future in futures))
            print(executor.submit(int).result(30))
    """)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(sum(number**2 for number in range(200))), "0"]
    assert "from a callback" in ended.stderr


def test_many_threads_use_one_executor() -> None:
    with motet.Executor("processes", 2) as executor:
        sums: list[int] = []

        def use(first: int) -> None:
            futures = [executor.submit(pow, number, 2) for number in range(first, first + 200)]
            sums.append(sum(future.result(LIMIT) for future in futures))

        threads = [threading.Thread(target=use, args=(first,)) for first in range(0, 1600, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert sum(sums) == sum(number**2 for number in range(1600))


def test_two_executors_and_one_within_a_worker() -> None:
    def inner() -> int:
        with motet.Executor("processes", 1) as executor:
            return executor.submit(os.getppid).result(LIMIT)

    with motet.Executor("processes", 1) as first, motet.Executor("processes", 1) as second:
        pids = {executor.submit(os.getpid).result(LIMIT) for executor in (first, second)}
        assert len(pids) == 2
        assert first.submit(inner).result(LIMIT) > 0
        first.shutdown()
        assert second.submit(nap, 0.01).result(LIMIT) == 0.01


def test_preloaded_modules_are_there() -> None:
    with motet.Executor("processes", 1, preload=["colorsys", "no_such_module"]) as executor:
        assert executor.submit(lambda: "colorsys" in sys.modules).result(LIMIT)
