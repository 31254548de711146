"""The record of each measurement, and the figures that stand for all its rounds."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness import rows

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Record:
    """One row of one loop in one round: its values, or why there are none.

    `failure` says what went wrong, `missing` that there was nothing to measure.
    """

    section: str
    row: str
    loop: str
    round: int
    values: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    missing: str | None = None


class Results:
    """All records of a run."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = tuple(records)

    def failures(self, section: str) -> list[Record]:
        """Return the rounds of a section that failed."""
        return [record for record in self.records if record.section == section and record.failure is not None]

    def missing(self, section: str) -> dict[tuple[str, str], str]:
        """Return the rows and loops of a section that there was nothing to measure of, and why."""
        return {
            (record.row, record.loop): record.missing
            for record in self.records
            if record.section == section and record.missing is not None
        }

    def rows(self, section: str) -> list[str]:
        """Return the rows of a section in the order of their first measurement."""
        return list(dict.fromkeys(record.row for record in self.records if record.section == section))

    def loops(self, section: str) -> list[str]:
        """Return the loops that a section measured, in the order of the first round."""
        return list(dict.fromkeys(record.loop for record in self.records if record.section == section))

    def figure(self, section: str, row: str, loop: str, quantity: str) -> float | None:
        """Return one figure over all rounds, or None if no round succeeded.

        It is the median of the rounds. The share of user time is taken from all rounds added up, because the
        kernel samples it: one round has too few samples.
        """
        rounds = list(self._rounds(section, row, loop).values())
        if not rounds:
            return None
        if quantity not in (rows.USER, rows.SYSTEM, rows.CPU):
            return statistics.median(values[quantity] for values in rounds)
        together = statistics.median(_cpu(values) for values in rounds)
        user = sum(values["server_user_seconds"] for values in rounds)
        system = sum(values["server_system_seconds"] for values in rounds)
        share = {rows.USER: user, rows.SYSTEM: system, rows.CPU: user + system}[quantity] / (user + system)
        return together * share

    def paired_ratios(self, section: str, row: str, loop: str, other: str) -> list[float]:
        """Return the ratio of two loops' processor time per request for each round of both."""
        own, theirs = self._rounds(section, row, loop), self._rounds(section, row, other)
        return [_cpu(own[number]) / _cpu(theirs[number]) for number in own if number in theirs]

    def _rounds(self, section: str, row: str, loop: str) -> dict[int, dict[str, float]]:
        return {
            record.round: record.values
            for record in self.records
            if (record.section, record.row, record.loop) == (section, row, loop) and record.values
        }


def _cpu(values: dict[str, float]) -> float:
    """Return microseconds per request."""
    spent = values["server_user_seconds"] + values["server_system_seconds"]
    return spent / values["requests"] * MICROSECONDS
