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
