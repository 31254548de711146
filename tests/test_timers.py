"""`call_later` and `call_at`: order, cancellation, odd deadlines, memory; a random schedule and its model."""

from __future__ import annotations

import asyncio
import math
from contextlib import closing

import motet
import pytest
from conftest import MakeLoop
from hypothesis import given, settings
from hypothesis import strategies as st


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * 4096


def test_timers_fire_in_the_order_of_their_deadlines(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        fired: list[int] = []
        base = loop.time() + 0.01
        for place in (3, 1, 4, 0, 2):
            loop.call_at(base + place / 1000, fired.append, place)
        loop.call_at(base + 0.01, loop.stop)
        loop.run_forever()
    assert fired == [0, 1, 2, 3, 4]


def test_equal_deadlines_fire_in_the_order_of_scheduling() -> None:
    with closing(motet.new_event_loop()) as loop:
        fired: list[int] = []
        deadline = loop.time() + 0.01
        for number in range(500):
            loop.call_at(deadline, fired.append, number)
        loop.call_at(deadline, loop.stop)
        loop.run_forever()
    assert fired == list(range(500))


def test_no_timer_fires_early(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        early: list[float] = []

        def look(deadline: float) -> None:
            if loop.time() < deadline - 1e-3:
                early.append(deadline)

        for number in range(50):
            deadline = loop.time() + number / 2000
            loop.call_at(deadline, look, deadline)
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
    assert early == []


def test_a_timer_that_is_due_runs_after_what_is_ready() -> None:
    with closing(motet.new_event_loop()) as loop:
        ran: list[str] = []
        loop.call_later(0, ran.append, "timer")
        loop.call_soon(ran.append, "soon")
        loop.run_until_complete(asyncio.sleep(0.01))
    assert ran == ["soon", "timer"]


@pytest.mark.parametrize("delay", [0, -5, math.nan, -math.inf, -1e300])
def test_deadlines_of_the_past_fire_at_once(make_loop: MakeLoop, delay: float) -> None:
    with closing(make_loop()) as loop:
        fired: list[int] = []
        loop.call_later(delay, fired.append, 1)
        loop.run_until_complete(asyncio.sleep(0.01))
    assert fired == [1]


@pytest.mark.parametrize("delay", [math.inf, 1e300, 1e18, 1e10])
def test_deadlines_out_of_reach_never_fire(make_loop: MakeLoop, delay: float) -> None:
    with closing(make_loop()) as loop:
        fired: list[int] = []
        timer = loop.call_later(delay, fired.append, 1)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert timer.when() >= delay
    assert fired == []


def test_a_cancelled_timer_does_not_fire(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        fired: list[str] = []
        before = loop.call_later(0.001, fired.append, "before")
        before.cancel()
        inside: list[asyncio.TimerHandle] = []
        deadline = loop.time() + 0.005
        loop.call_at(deadline, lambda: inside[0].cancel())
        inside.append(loop.call_at(deadline, fired.append, "inside"))
        loop.run_until_complete(asyncio.sleep(0.02))
        for timer in (before, inside[0]):
            assert timer.cancelled()
            timer.cancel()
    assert fired == []


def test_cancelling_a_timer_that_has_fired_changes_nothing() -> None:
    with closing(motet.new_event_loop()) as loop:
        fired: list[int] = []
        old = loop.call_later(0, fired.append, 1)
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.call_later(0.01, fired.append, 2)
        old.cancel()
        assert loop.statistics()["timers_pending"] == 1
        loop.run_until_complete(asyncio.sleep(0.03))
    assert fired == [1, 2]


def test_when_is_the_deadline(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        deadline = loop.time() + 3600
        assert loop.call_at(deadline, print).when() == deadline
        assert loop.call_later(3600, print).when() == pytest.approx(deadline, abs=60)


def test_handles_of_timers_compare_by_deadline() -> None:
    with closing(motet.new_event_loop()) as loop:
        deadline = loop.time() + 3600
        early, late = loop.call_at(deadline, print), loop.call_at(deadline + 1, print)
        assert early < late
        assert late > early
        assert early <= late
        assert late >= early
        assert early != late
        assert len({early, late}) == 2


@pytest.mark.thread_unsafe(reason="measures the memory of the process")
def test_cancelled_timers_leave_no_memory() -> None:
    with closing(motet.new_event_loop()) as loop:

        def cancel_many() -> None:
            timers = [loop.call_later(3600, print, number) for number in range(20_000)]
            for timer in timers:
                timer.cancel()

        cancel_many()
        before = resident_bytes()
        for _ in range(20):
            cancel_many()
        assert loop.statistics()["timers_pending"] == 0
        # 400,000 timers; were one word of each kept, this would be 3.2 MB.
        assert resident_bytes() - before < 2_500_000


Operation = tuple[str, int]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at"), st.integers(0, 20)),
            st.tuples(st.just("soon"), st.just(0)),
            st.tuples(st.just("cancel"), st.integers(0, 50)),
        ),
        max_size=60,
    )
)
def test_a_random_schedule_runs_as_its_model_says(operations: list[Operation]) -> None:
    """The model: what is ready in order, then timers by deadline and order of scheduling."""
    with closing(motet.new_event_loop()) as loop:
        ran: list[int] = []
        base = loop.time() - 1
        handles: list[motet.Handle] = []
        model: list[tuple[float, int]] = []
        for kind, value in operations:
            number = len(handles)
            if kind == "at":
                handles.append(loop.call_at(base + value / 1000, ran.append, number))
                model.append((value, number))
            elif kind == "soon":
                handles.append(loop.call_soon(ran.append, number))
                model.append((-1, number))
            elif handles:
                victim = value % len(handles)
                handles[victim].cancel()
                model = [entry for entry in model if entry[1] != victim]
        # Due at once, like the others, and later than all of them.
        loop.call_at(base + 1, loop.stop)
        loop.run_forever()
        assert ran == [number for _, number in sorted(model)]
        assert [handle.cancelled() for handle in handles] == [
            number not in ran for number in range(len(handles))
        ]
