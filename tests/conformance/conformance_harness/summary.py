"""The README's summary: results, one row for each suite and Python, and the lists with their reasons."""

import re
from collections import Counter
from pathlib import Path

from .expectations import EXCLUDED, EXPECTED_FAILURE, WAITING, Entry, all_entries
from .readme import README, python_name, read_results, write_section
from .verdicts import Report

HEADINGS = {
    WAITING: "Waiting for a feature that motet does not have yet",
    EXPECTED_FAILURE: "Expected failures",
    EXCLUDED: "Excluded",
}
COLUMNS = [
    "suite", "Python", "passed", "of these on motet's loop", "expected failures", "waiting", "excluded",
    "skipped", "unexpected",
]  # fmt: skip


def write_summary(reports: list[Report], readme: Path = README) -> None:
    """Replace this Python's rows, and the lists."""
    rows = read_results(readme) | {(row[0], row[1]): row for row in map(_row, _by_suite(reports))}
    lines = [_line(COLUMNS), _line(["---"] * 2 + ["---:"] * (len(COLUMNS) - 2))]
    lines += [_line(rows[key]) for key in sorted(rows, key=lambda key: (key[0], _order(key[1])))]
    write_section("results", "\n".join(lines), readme)
    write_section("lists", render_lists(), readme)


def render_lists() -> str:
    """The three lists as the README shows them."""
    blocks: list[str] = []
    for kind, heading in HEADINGS.items():
        blocks.append(f"### {heading}\n")
        entries = [entry for entry in all_entries() if entry.kind == kind]
        blocks.append("\n".join(map(_describe, entries)) if entries else "None.")
        blocks.append("")
    return "\n".join(blocks).rstrip()


def _by_suite(reports: list[Report]) -> list[list[Report]]:
    suites: dict[str, list[Report]] = {}
    for report in reports:
        suites.setdefault(report.suite.name, []).append(report)
    return list(suites.values())


def _row(reports: list[Report]) -> list[str]:
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    counts = Counter(verdict.status for verdict in verdicts)
    on_loop = sum(verdict.status == "passed" and verdict.outcome.made_loop for verdict in verdicts)
    numbers = [counts["passed"], on_loop, counts[EXPECTED_FAILURE], counts[WAITING], counts[EXCLUDED]]
    numbers += [counts["skipped"], counts["failed"]]
    return [reports[0].suite.title, python_name(), *map(str, numbers)]


def _describe(entry: Entry) -> str:
    condition = f" (Python {entry.python})" if entry.python else ""
    tests = ", ".join(f"`{pattern}`" for pattern in entry.tests)
    return f"- **{entry.reason}**{condition}\n  {entry.suite}: {tests}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _order(python: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", python)))
