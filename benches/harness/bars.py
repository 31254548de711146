"""What each row must reach, and whether it did."""

import math
import statistics
from dataclasses import dataclass

from harness import rows
from harness.loops import AIOFASTNET, MOTET, RIVALS
from harness.records import Results

BEST_RIVAL = "best rival"
NOBODY = ""
AT_LEAST, AT_MOST, BELOW, ABOVE = "≥", "≤", "<", ">"
MANY = rows.connections(rows.MANY_CONNECTIONS)


@dataclass(frozen=True)
class Bar:
    """A ratio of two figures and its limit.

    `times_faster` divides the rival's time by the contender's. `paired` takes the median of the rounds'
    ratios, for a limit that is narrower than what drifts between rounds. `difference` subtracts the figures
    instead, for a limit that is an amount. `against` nobody, the limit is that of the figure itself.
    """

    section: str
    row: str
    quantity: str
    against: str
    relation: str
    limit: float
    times_faster: bool = False
    paired: bool = False
    contender: str = MOTET
    difference: bool = False

    def __str__(self) -> str:
        if self.against == NOBODY:
            return f"{self.contender} {self.relation} {self.limit:.3g}"
        names = (self.against, self.contender) if self.times_faster else (self.contender, self.against)
        if self.difference:
            return f"{names[0]} - {names[1]} {self.relation} {self.limit:.0f}"
        return f"{names[0]} ÷ {names[1]} {self.relation} {self.limit:.3g}"


@dataclass(frozen=True)
class Verdict:
    """A bar beside what was measured; without a ratio, `outcome` says which figure is missing."""

    bar: Bar
    reference: str
    ratio: float | None
    outcome: str
    uncertainty: float | None = None


def _micro() -> list[Bar]:
    no_slower = (rows.CREATE_TASK, rows.GATHER, rows.QUEUES)
    return [
        Bar(rows.MICRO, row, rows.NANOSECONDS, BEST_RIVAL, AT_LEAST, 1.0 if row in no_slower else 1.2, True)
        for row in rows.MICRO_ROWS
    ]


def _echo() -> list[Bar]:
    bars: list[Bar] = []
    for count in rows.ECHO_CONNECTIONS:
        row = rows.connections(count)
        bars += [
            Bar(rows.PROTOCOL, row, rows.USER, "uvloop", AT_MOST, 0.6),
            Bar(rows.PROTOCOL, row, rows.CPU, "uvloop", BELOW, 1.0),
            Bar(rows.STREAMS, row, rows.USER, "uvloop", AT_MOST, 0.8),
            Bar(rows.STREAMS, row, rows.CPU, "uvloop", BELOW, 1.0),
            Bar(rows.SOCK, row, rows.CPU, "rloop", AT_MOST, 0.5),
        ]
    return bars


def _web() -> list[Bar]:
    return [Bar(rows.WEB, row, rows.CPU, "uvloop", AT_LEAST, 1.0, times_faster=True) for row in rows.WEB_ROWS]


def _own_tasks() -> list[Bar]:
    return [
        Bar(rows.NATIVE_TASKS, row, rows.NANOSECONDS, BEST_RIVAL, AT_LEAST, 1.7, times_faster=True)
        for row in rows.TASK_ROWS
    ]


def _tls() -> list[Bar]:
    return [
        Bar(rows.TLS, MANY, rows.CPU, "uvloop", AT_MOST, 0.4),
        Bar(rows.TLS, MANY, rows.CPU, AIOFASTNET, AT_MOST, 0.4),
        Bar(rows.TLS_THROUGHPUT, rows.TLS_THROUGHPUT_ROW, rows.MIB_PER_SECOND, BEST_RIVAL, AT_LEAST, 1.0),
        Bar(rows.TLS_MEMORY, rows.TLS, rows.KIB_PER_CONNECTION, "uvloop", AT_MOST, 0.6),
        Bar(rows.HANDSHAKES, rows.HANDSHAKES_ROW, rows.REQUESTS_PER_SECOND, BEST_RIVAL, AT_LEAST, 1.0),
    ]


def _start() -> list[Bar]:
    limits = {rows.IMPORT: 25.0, rows.EMPTY_PROGRAM: 60.0}
    return [
        Bar(rows.START, row, rows.MILLISECONDS, rows.PLAIN, AT_MOST, limit, difference=True)
        for row, limit in limits.items()
    ]


BARS: tuple[Bar, ...] = (
    *_micro(),
    *_echo(),
    *(
        Bar(rows.THROUGHPUT, row, rows.MIB_PER_SECOND, "uvloop", AT_LEAST, 1.0)
        for row in rows.THROUGHPUT_SIZES
    ),
    Bar(rows.MEMORY, rows.PROTOCOL, rows.KIB_PER_CONNECTION, "uvloop", AT_MOST, 0.8),
    Bar(rows.MEMORY, rows.STREAMS, rows.KIB_PER_CONNECTION, "uvloop", AT_MOST, 0.8),
    Bar(
        rows.WATCHDOG,
        MANY,
        rows.CPU,
        rows.WATCHDOG_OFF,
        AT_MOST,
        1.02,
        paired=True,
        contender=rows.WATCHDOG_ON,
    ),
    *_tls(),
    Bar(rows.NATIVE_STREAMS, MANY, rows.USER, "uvloop", AT_MOST, 0.35),
    Bar(rows.NATIVE_STREAMS, MANY, rows.CPU, "uvloop", AT_MOST, 0.65),
    Bar(rows.READLINE, MANY, rows.CPU, "uvloop", AT_LEAST, 1.5, times_faster=True),
    *_own_tasks(),
    *_web(),
    *_start(),
    Bar(
        rows.THREADS,
        MOTET,
        rows.REQUESTS_PER_SECOND,
        rows.ONE_LOOP,
        AT_LEAST,
        1.7,
        contender=rows.TWO_LOOPS,
    ),
)


def judge(results: Results, section: str, every_bar: tuple[Bar, ...] = BARS) -> list[Verdict]:
    """Judge every bar of a section, in the order of its rows."""
    return [
        _judge(bar, results)
        for row in results.rows(section)
        for bar in every_bar
        if _belongs(bar, section, row)
    ]


def _belongs(bar: Bar, section: str, row: str) -> bool:
    return (bar.section, bar.row) == (section, row)


def _judge(bar: Bar, results: Results) -> Verdict:
    own = results.figure(bar.section, bar.row, bar.contender, bar.quantity)
    reference, rival = bar.against, results.figure(bar.section, bar.row, bar.against, bar.quantity)
    if bar.against == NOBODY:
        rival = 1.0
    if bar.against == BEST_RIVAL:
        figures = {loop: results.figure(bar.section, bar.row, loop, bar.quantity) for loop in RIVALS}
        known = {loop: figure for loop, figure in figures.items() if figure is not None}
        if known:
            more_is_better = bar.relation == AT_LEAST and not bar.times_faster
            reference = (max if more_is_better else min)(known, key=lambda loop: known[loop])
            rival = known[reference]
    missing = [name for name, figure in ((bar.contender, own), (reference, rival)) if figure is None]
    if own is None or rival is None:
        return Verdict(bar, reference, None, f"no figure of {' and '.join(missing)}")
    above, below = (rival, own) if bar.times_faster else (own, rival)
    if not below:
        return Verdict(bar, reference, None, "too small to divide by")
    ratio = above - below if bar.difference else above / below
    uncertainty = None
    if bar.paired:
        ratios = results.paired_ratios(bar.section, bar.row, bar.contender, reference)
        if len(ratios) < 2:
            return Verdict(bar, reference, None, "needs two rounds")
        ratio, uncertainty = statistics.median(ratios), _uncertainty(ratios)
    met = {
        AT_LEAST: ratio >= bar.limit,
        AT_MOST: ratio <= bar.limit,
        BELOW: ratio < bar.limit,
        ABOVE: ratio > bar.limit,
    }[bar.relation]
    return Verdict(bar, reference, ratio, "met" if met else "missed", uncertainty)


def _uncertainty(values: list[float]) -> float:
    """Return the standard error of the median, from the quartiles, which outliers do not move.

    It is 1.253 standard deviations over the root of the count, and 1.349 of them lie between the quartiles.
    """
    lower, _, upper = statistics.quantiles(values, n=4)
    return 1.253 / 1.349 * (upper - lower) / math.sqrt(len(values))
