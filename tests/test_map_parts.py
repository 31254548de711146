"""The parts of a mapping that need no workers: sizes of chunks, what is in flight, chunks, progress."""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import threading
from concurrent.futures import Future
from typing import Any

import motet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from motet._executor.chunk_sizes import GROWTH, PATIENCE, TARGET, ChunkSizer, FixedSize
from motet._executor.chunks import Outcome, Task, run_chunk
from motet._executor.flight import MORE_BRIEF, Flight
from motet._executor.progress import Lines, total_of


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# ---- sizes ----


@given(
    cost=st.floats(1e-8, 10),
    feeding=st.floats(0, 1e-2),
    before=st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 100)), max_size=20),
)
def test_sizes_come_to_a_millisecond_of_work(
    cost: float, feeding: float, before: list[tuple[int, float]]
) -> None:
    sizer = ChunkSizer()
    for items, seconds in before:
        sizer.record(items, seconds)
    sizer.feed(1, feeding)
    for _ in range(40):
        sizer.record(sizer.size, sizer.size * cost)
    wanted = TARGET / max(cost, feeding)
    assert 1 <= sizer.size <= 8192
    assert abs(sizer.size - min(max(wanted, 1), 8192)) <= 1


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 100)), max_size=50))
def test_sizes_grow_on_evidence_only(measured: list[tuple[int, float]]) -> None:
    sizer = ChunkSizer()
    for items, seconds in measured:
        before = sizer.size
        sizer.record(items, seconds)
        assert 1 <= sizer.size <= max(before, GROWTH * items)
        if seconds <= PATIENCE * TARGET:
            assert sizer.size >= before // 2


# ---- chunks ----


def test_brief_chunks() -> None:
    sizer = ChunkSizer()
    assert not sizer.is_brief
    sizer.record(1, 2 * TARGET)
    assert sizer.is_brief
    sizer.record(1, 3 * TARGET)
    assert not sizer.is_brief
    # What it takes to send them counts.
    sizer.feed(1, 3 * TARGET)
    sizer.record(1, TARGET)
    assert not sizer.is_brief


def test_a_chunk_that_takes_too_long_gives_back_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("motet._executor.chunks.perf_counter", clock)

    def work(seconds: float) -> float:
        clock.now += seconds
        return seconds

    task = Task(False, "raise", 0, PATIENCE * TARGET)
    items = [1e-6] * 500 + [1.0] * 500
    outcome = run_chunk(work, items, task)
    assert 500 < outcome.done < 800
    assert outcome.results == items[: outcome.done]
    assert outcome.seconds == pytest.approx(sum(outcome.results))
    assert run_chunk(work, [1.0] * 500, task).done == 1
    assert run_chunk(work, [1.0] * 50, task._replace(budget=0.0)).done == 50


@given(
    bad=st.sets(st.integers(0, 39)),
    count=st.integers(0, 40),
    on_error=st.sampled_from(["raise", "return", "skip"]),
    budget=st.sampled_from([0.0, 1e9]),
)
def test_a_chunk_calls_each_item_once(bad: set[int], count: int, on_error: Any, budget: float) -> None:
    called = []

    def work(number: int) -> int:
        called.append(number)
        if number in bad:
            raise LookupError(number)
        return -number

    outcome = run_chunk(work, list(range(count)), Task(False, on_error, 0, budget))
    failed = [n for n in range(count) if n in bad]
    if on_error == "raise":
        first = failed[0] if failed else count
        assert called == list(range(min(first + 1, count)))
        assert (outcome.done, outcome.results) == (first, [-n for n in range(first)])
        failed = failed[:1]
    else:
        assert called == list(range(count))
        assert outcome.done == count
        expected = [None if n in bad else -n for n in range(count)]
        assert outcome.results == (
            expected if on_error == "return" else [n for n in expected if n is not None]
        )
    assert [place for place, _ in outcome.failures] == failed
    assert all(failure.error.__traceback__ is not None for _, failure in outcome.failures)


def test_one_result_that_cannot_travel_is_parted_with() -> None:
    def outcome(on_error: Any) -> Outcome:
        made = Outcome(0.0, 3, [1, threading.Lock(), 3], [], on_error)
        with pytest.raises(TypeError):
            pickle.dumps(made)
        found = pickle.loads(pickle.dumps(made))
        assert isinstance(found, Outcome)
        ((place, failure),) = found.failures
        assert place == 1
        assert isinstance(failure.error, motet.NotShippable)
        return found

    assert (outcome("return").results, outcome("return").done) == ([1, None, 3], 3)
    assert (outcome("skip").results, outcome("skip").done) == ([1, 3], 3)
    assert (outcome("raise").results, outcome("raise").done) == ([1], 1)


# ---- flights ----


@given(
    ordered=st.booleans(),
    buffer=st.none() | st.integers(1, 30),
    ahead=st.integers(1, 8),
    size=st.integers(1, 9),
    brief=st.booleans(),
    count=st.integers(0, 100),
    choices=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), max_size=60),
)
def test_a_flight_delivers_each_item_once(
    ordered: bool,
    buffer: int | None,
    ahead: int,
    size: int,
    brief: bool,
    count: int,
    choices: list[tuple[int, int]],
) -> None:
    sent: list[tuple[Future[None], int]] = []

    def send(items: list[int]) -> Future[None]:
        future: Future[None] = Future()
        sent.append((future, len(items)))
        return future

    sizer = FixedSize(size)
    sizer.is_brief = brief
    flight = Flight(send, ordered=ordered, buffer=buffer, ahead=ahead, sizer=sizer)
    ahead *= MORE_BRIEF if brief else 1
    numbers = iter(range(count))
    taken = 0
    delivered: list[int] = []
    decisions = itertools.chain(choices, itertools.repeat((0, 9)))
    while True:
        flight.send_returned()
        while (wanted := flight.wants()) and (items := list(itertools.islice(numbers, wanted))):
            taken += len(items)
            flight.add(items)
            assert len(sent) <= ahead
        assert taken - len(delivered) <= (buffer or ahead * size)
        if flight.is_over:
            break
        assert sent or flight.look()
        while not flight.look():
            # Any of them ends, perhaps with only a part done.
            which, _ = next(decisions)
            sent.pop(which % len(sent))[0].set_result(None)
        chunk = flight.take()
        done = min(next(decisions)[1], len(chunk.items))
        delivered += chunk.items[:done]
        flight.settle(chunk, done, 0.0)
    assert (delivered if ordered else sorted(delivered)) == list(range(count))


# ---- progress ----


def test_lines_from_time_to_time_where_there_is_no_terminal() -> None:
    clock, file = Clock(), io.StringIO()
    lines = Lines(200, "motet.map", file, interval=10, clock=clock)
    for _ in range(10):
        clock.now += 5
        lines.advance(20, 0 if clock.now < 30 else 3)
    lines.close()
    told = file.getvalue().splitlines()
    assert len(told) == 6
    assert told[0] == "motet.map: 40/200 (20%) [00:10<00:40,  4.00it/s]"
    assert told[-1] == "motet.map: 200/200 (100%) [00:50<00:00,  4.00it/s, 3 failed]"
    assert "\r" not in file.getvalue()


def test_lines_without_a_total() -> None:
    clock, file = Clock(), io.StringIO()
    lines = Lines(None, "motet.map", file, clock=clock)
    clock.now = 4
    lines.advance(8, 0)
    lines.close()
    assert file.getvalue() == "motet.map: 8 [00:04,  2.00it/s]\n"


def test_how_many_there_will_be() -> None:
    assert total_of([range(5), [1, 2, 3], iter([1, 2, 3, 4])]) == 3
    assert total_of([range(5), (n for n in range(3))]) is None


async def half(number: int) -> float:
    return 10 / number


@pytest.mark.thread_unsafe(reason="replaces sys.stderr")
def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = set(threading.enumerate())
    monkeypatch.setattr(sys, "stderr", file := Terminal())
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert len(list(motet.map(half, range(4), progress=True, on_error="skip"))) == 3
    last = file.getvalue().rpartition("\r")[2]
    assert "motet.map: 100%" in last
    assert "4/4" in last
    assert "1 failed" in last
    assert set(threading.enumerate()) <= before


@pytest.mark.thread_unsafe(reason="replaces sys.stderr")
def test_lines_on_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert len(list(motet.map(half, iter(range(1, 4)), progress=True))) == 3
    assert file.getvalue().startswith("motet.map: 3/3 (100%) [")
    monkeypatch.setattr(sys, "stderr", None)
    assert len(list(motet.map(half, [1], progress=True))) == 1
