"""The benchmarks' arithmetic: which figure is held against which, and what is told where there is none."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHES = Path(__file__).resolve().parent.parent / "benches"
MODULES = ("bars", "loops", "processes", "plan", "records", "report", "rows", "sections", "settings")


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHES))
    return SimpleNamespace(**{name: importlib.import_module(f"harness.{name}") for name in MODULES})


def _settings(harness: Any) -> Any:
    return harness.settings.Settings(
        sections=harness.rows.SECTIONS,
        loops=harness.loops.LOOPS,
        rounds=1,
        seconds=1.0,
        micro_seconds=1.0,
        idle_connections=1,
        idle_tls_connections=1,
        server_cpu=0,
        client_cpu=1,
        certificate=BENCHES,
    )


def _results(harness: Any, section: str, row: str, quantity: str, figures: dict[str, float]) -> Any:
    record = harness.records.Record
    return harness.records.Results(
        [record(section, row, loop, 0, {quantity: figure}) for loop, figure in figures.items()]
    )


def test_every_bar_is_about_figures_that_are_measured(harness: Any) -> None:
    settings = _settings(harness)
    for bar in harness.bars.BARS:
        if bar.section in (harness.rows.MICRO, harness.rows.NATIVE_TASKS):
            measured = dict.fromkeys(harness.rows.MICRO_ROWS, settings.loops)
        else:
            lines = harness.sections.lines(bar.section, settings)
            measured = {line.row: line.contenders for line in lines}
        assert bar.contender in measured[bar.row], bar
        assert bar.against == harness.bars.BEST_RIVAL or bar.against in measured[bar.row], bar


def test_every_section_can_be_planned_and_told(harness: Any) -> None:
    planned = {step.name.partition(",")[0] for step in harness.plan.steps(_settings(harness))}
    assert planned == set(harness.rows.SECTIONS)
    assert set(harness.report.TITLES) == planned
    assert set(harness.report.QUANTITIES) | set(harness.rows.ECHO_SECTIONS) == planned


@pytest.mark.parametrize(
    ("section", "row", "quantity", "figures", "best", "ratio"),
    [
        ("handshakes", "HANDSHAKES_ROW", "REQUESTS_PER_SECOND", {"uvloop": 80, "motet": 75}, "asyncio", 0.75),
        ("native-tasks", "SLEEP", "NANOSECONDS", {"uvloop": 80, "motet": 40}, "uvloop", 2.0),
    ],
)
def test_the_best_rival_is_the_fastest(
    harness: Any, section: str, row: str, quantity: str, figures: dict[str, float], best: str, ratio: float
) -> None:
    names = harness.rows
    figures = {"asyncio": 100, **figures}
    results = _results(harness, section, getattr(names, row), getattr(names, quantity), figures)
    [verdict] = harness.bars.judge(results, section)
    assert (verdict.reference, verdict.ratio) == (best, ratio)


def test_a_bar_can_be_an_amount(harness: Any) -> None:
    rows = harness.rows
    results = _results(harness, rows.START, rows.IMPORT, rows.MILLISECONDS, {rows.PLAIN: 40.0, "motet": 64.0})
    [verdict] = harness.bars.judge(results, rows.START)
    assert (verdict.ratio, verdict.outcome) == (24.0, "met")


def test_what_does_not_exist_is_told_and_has_not_failed(harness: Any) -> None:
    rows, record = harness.rows, harness.records.Record
    row = rows.connections(rows.MANY_CONNECTIONS)
    missing = record(rows.READLINE, row, "motet", 0, missing="this motet has no streams of its own")
    results = harness.records.Results([missing])
    text = harness.report.report({}, [], (rows.READLINE,), results)
    assert "- not available: motet: this motet has no streams of its own\n" in text
    assert "0 met, 0 missed, 1 without a figure" in text
    assert "failed" not in text.partition("## ")[2]


def test_a_process_says_by_its_status_that_something_does_not_exist(harness: Any) -> None:
    command = ["sh", "-c", "echo no such thing >&2; exit 69"]
    with pytest.raises(harness.processes.NotAvailable, match="no such thing"):
        harness.processes.run_json(command, 30.0)


@pytest.fixture
def pools(harness: Any) -> Any:
    modules = ("bars", "contenders", "recovery", "report", "rows", "running")
    return SimpleNamespace(**{name: importlib.import_module(f"harness.pools.{name}") for name in modules})


def test_every_bar_of_pools_is_about_figures_that_are_measured(harness: Any, pools: Any) -> None:
    rows = {(row.section, row.name): row for row in pools.rows.ROWS}
    for bar in pools.bars.BARS:
        row = rows[bar.section, bar.row]
        assert bar.quantity == row.quantity, bar
        assert bar.contender in row.contenders, bar
        assert bar.against == harness.bars.NOBODY or bar.against in row.contenders, bar


def test_every_section_of_pools_can_be_planned_and_told(pools: Any) -> None:
    names = pools.rows
    steps = pools.running.steps(names.SECTIONS, pools.contenders.POOLS, 1, names.QUICK)
    assert {step.name.partition(",")[0] for step in steps} == set(names.SECTIONS) == set(pools.report.TITLES)


def test_a_bar_can_be_of_the_figure_itself(harness: Any, pools: Any) -> None:
    names = pools.rows
    results = _results(harness, names.RECOVERY, names.KILLED, names.MILLISECONDS, {"motet": 51.0})
    [verdict] = harness.bars.judge(results, names.RECOVERY, pools.bars.BARS)
    assert (verdict.ratio, str(verdict.bar), verdict.outcome) == (51.0, "motet ≤ 50", "missed")


def test_a_pool_that_is_not_there_costs_the_bars_against_it_only(harness: Any, pools: Any) -> None:
    names = pools.rows
    figures = {"motet": 5.0, pools.contenders.FORK: 100.0}
    results = _results(harness, names.ARRAYS, names.ARRAY_IN, names.MILLISECONDS, figures)
    text = pools.report.report({}, [], (names.ARRAYS,), results)
    assert "Bars: 1 met, 0 missed, 1 without a figure." in text
    assert "no figure of Ray" in text


def _ends(since: float, until: float, every: float, worker: int) -> list[tuple[float, Any]]:
    return [(since + number * every, worker) for number in range(int((until - since) / every))]


def test_full_speed_is_back_with_the_calls_of_a_second_worker(pools: Any) -> None:
    died = [(1.0, RuntimeError("the worker died"))]
    ended = _ends(0.0, 1.0, 0.001, 1) + _ends(0.0, 2.0, 0.001, 2) + died + _ends(1.03, 2.0, 0.001, 3)
    found = pools.recovery.recovery_time(ended, 1.0)
    # A window may begin while a tenth of it is still missing.
    assert 25.0 <= found["ms"] <= 31.0
    assert found["first_new_worker_ms"] == pytest.approx(30.0)


def test_a_pool_that_never_recovers_has_no_figure(pools: Any) -> None:
    ended = [*_ends(0.0, 1.0, 0.001, 1), (1.0, EOFError("broken"))]
    with pytest.raises(RuntimeError, match="EOFError"):
        pools.recovery.recovery_time(ended, 1.0)
