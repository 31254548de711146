"""The order of a run: rounds outermost, so that what drifts on the machine drifts under every loop alike."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from harness import measure, memory, rows
from harness.loops import MOTET
from harness.processes import MeasurementFailed
from harness.records import Record
from harness.settings import Settings

# A microbenchmark is cheap and noisy, and the watchdog's two per cent drown in few rounds.
ROUNDS_FACTOR = {rows.MICRO: 2, rows.TASKS: 2, rows.WATCHDOG: 16}
# Many short rounds beat few long ones where two neighbours are compared.
WATCHDOG_DIVISOR = 4
START_SECONDS = 0.5
MEMORY_SECONDS = 3.0
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
        for number in range(settings.rounds * ROUNDS_FACTOR.get(section, 1)):
            planned += _round(section, number, settings)
    return planned


def _round(section: str, number: int, settings: Settings) -> Iterator[Step]:
    if section in (rows.MICRO, rows.TASKS):
        measured = rows.TASK_ROWS if section == rows.TASKS else rows.MICRO_ROWS
        seconds = settings.micro_seconds * len(measured) + MICRO_OVERHEAD
        for loop in _turned(settings.loops, number):
            yield Step(f"{section}, {loop}", seconds, partial(measure.micro, section, loop, number, settings))
        return
    if section == rows.WATCHDOG:
        settings = dataclasses.replace(settings, seconds=settings.seconds / WATCHDOG_DIVISOR)
    for row, contenders in _lines(section, settings):
        for loop in _turned(contenders, number):
            seconds = START_SECONDS + settings.warm_up + settings.seconds
            if section == rows.MEMORY:
                seconds = MEMORY_SECONDS
            work = _work(section, row, loop, settings)
            yield Step(
                f"{section}, {row}, {loop}", seconds, partial(_recorded, section, row, loop, number, work)
            )


def _turned(loops: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Start each round with another loop: the place in the round must favour nobody."""
    start = number % len(loops) if loops else 0
    return loops[start:] + loops[:start]


def _lines(section: str, settings: Settings) -> list[tuple[str, tuple[str, ...]]]:
    """Return the rows of a section, each with those who compete in it."""
    with_floor = (rows.FLOOR, *settings.loops)
    if section == rows.THROUGHPUT:
        return [(row, with_floor) for row in rows.THROUGHPUT_SIZES]
    if section == rows.MEMORY:
        return [(style, settings.loops) for style in (rows.PROTOCOL, rows.STREAMS)]
    if section == rows.WATCHDOG:
        both = (rows.WATCHDOG_ON, rows.WATCHDOG_OFF)
        return [(rows.connections(rows.WATCHDOG_CONNECTIONS), both)] if MOTET in settings.loops else []
    contenders = with_floor if section == rows.PROTOCOL else settings.loops
    return [(rows.connections(count), contenders) for count in rows.ECHO_CONNECTIONS]


def _work(section: str, row: str, loop: str, settings: Settings) -> Callable[[], dict[str, float]]:
    if section == rows.THROUGHPUT:
        return partial(measure.throughput, loop, rows.THROUGHPUT_SIZES[row], settings)
    if section == rows.MEMORY:
        return partial(memory.idle, loop, row, settings)
    if section == rows.WATCHDOG:
        return partial(measure.watchdog, MOTET, loop, settings)
    count = {rows.connections(count): count for count in rows.ECHO_CONNECTIONS}[row]
    return partial(measure.echo, loop, section, count, rows.ECHO_SIZE, settings)


def _recorded(
    section: str, row: str, loop: str, number: int, work: Callable[[], dict[str, float]]
) -> list[Record]:
    try:
        return [Record(section, row, loop, number, work())]
    except MeasurementFailed as failure:
        return [Record(section, row, loop, number, failure=str(failure))]
