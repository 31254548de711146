"""The order of a run: rounds outermost, so that what drifts on the machine drifts under every loop alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from harness import measure, rows, sections
from harness.processes import MeasurementFailed, NotAvailable
from harness.records import Record
from harness.settings import Settings

MICRO_OVERHEAD = 2.5


@dataclass(frozen=True)
class Step:
    """One measurement: what it is called, about how long it takes, and what does it."""

    name: str
    seconds: float
    run: Callable[[], list[Record]]


def steps(settings: Settings) -> list[Step]:
    """Return all steps of a run in their order."""
    planned: list[Step] = []
    for section in settings.sections:
        for number in range(sections.rounds(section, settings)):
            planned += _round(section, number, sections.settings_of(section, settings))
    return planned


def _round(section: str, number: int, settings: Settings) -> Iterator[Step]:
    if section in (rows.MICRO, rows.NATIVE_TASKS):
        count = len(rows.MICRO_ROWS if section == rows.MICRO else rows.TASK_ROWS)
        seconds = settings.micro_seconds * count + MICRO_OVERHEAD
        for loop in turned(sections.contenders(section, settings), number):
            yield Step(f"{section}, {loop}", seconds, partial(measure.micro, section, loop, number, settings))
        return
    for line in sections.lines(section, settings):
        for loop in turned(line.contenders, number):
            work = sections.work(section, line.row, loop, settings)
            yield Step(
                f"{section}, {line.row}, {loop}",
                sections.seconds(section, settings),
                partial(recorded, section, line.row, loop, number, work),
            )


def turned(loops: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Start each round with another loop: the place in the round must favour nobody."""
    start = number % len(loops) if loops else 0
    return loops[start:] + loops[:start]


def recorded(section: str, row: str, loop: str, number: int, work: sections.Work) -> list[Record]:
    """Do the work of one measurement; return its record, which tells what was missing or failed."""
    try:
        return [Record(section, row, loop, number, work())]
    except NotAvailable as reason:
        return [Record(section, row, loop, number, missing=str(reason))]
    except MeasurementFailed as failure:
        return [Record(section, row, loop, number, failure=str(failure))]
