"""What each section has: its rows, who competes in them, and what measures them."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness import measure, memory, rows, starting
from harness.loops import AIOFASTNET, MOTET
from harness.settings import Settings

Work = Callable[[], dict[str, float]]

# A microbenchmark is cheap and noisy, a start is quick, and the watchdog's two per cent drown in few rounds.
ROUNDS_FACTOR = {rows.MICRO: 2, rows.NATIVE_TASKS: 2, rows.WATCHDOG: 16, rows.START: 8}
# Many short rounds beat few long ones where two neighbours are compared.
WATCHDOG_DIVISOR = 4
START_SECONDS = 0.5
MEMORY_SECONDS = {rows.MEMORY: 3.0, rows.TLS_MEMORY: 12.0}
STARTING_SECONDS = 0.3


@dataclass(frozen=True)
class Line:
    """One row and who competes in it."""

    row: str
    contenders: tuple[str, ...]


def rounds(section: str, settings: Settings) -> int:
    """Return how many rounds a section takes."""
    if section == rows.TLS_MEMORY:
        return 1  # thousands of handshakes take long, and memory hardly differs from round to round
    return settings.rounds * ROUNDS_FACTOR.get(section, 1)


def settings_of(section: str, settings: Settings) -> Settings:
    """Return the settings that a section is measured with."""
    if section == rows.WATCHDOG:
        return dataclasses.replace(settings, seconds=settings.seconds / WATCHDOG_DIVISOR)
    return settings


def seconds(section: str, settings: Settings) -> float:
    """Return about how long one measurement of a section takes."""
    if section == rows.START:
        return STARTING_SECONDS
    return MEMORY_SECONDS.get(section, START_SECONDS + settings.warm_up + settings.seconds)


def lines(section: str, settings: Settings) -> list[Line]:
    """Return the rows of a section, each with those who compete in it."""
    loops = contenders(section, settings)
    with_floor = (rows.FLOOR, *loops)
    many = rows.connections(rows.MANY_CONNECTIONS)
    match section:
        case rows.THROUGHPUT:
            return [Line(row, with_floor) for row in rows.THROUGHPUT_SIZES]
        case rows.MEMORY:
            return [Line(style, loops) for style in (rows.PROTOCOL, rows.STREAMS)]
        case rows.WATCHDOG:
            both = (rows.WATCHDOG_ON, rows.WATCHDOG_OFF)
            return [Line(many, both)] if MOTET in loops else []
        case rows.TLS_THROUGHPUT:
            return [Line(rows.TLS_THROUGHPUT_ROW, loops)]
        case rows.TLS_MEMORY:
            return [Line(rows.TLS, loops)]
        case rows.HANDSHAKES:
            return [Line(rows.HANDSHAKES_ROW, loops)]
        case rows.TLS | rows.NATIVE_STREAMS | rows.READLINE:
            return [Line(many, loops)]
        case rows.DATAGRAMS:
            return [Line(row, loops) for row in rows.DATAGRAM_BATCHES]
        case rows.WEB:
            return [Line(row, loops) for row in rows.WEB_ROWS]
        case rows.START:
            return [Line(row, (rows.PLAIN, MOTET)) for row in rows.START_ROWS] if MOTET in loops else []
        case rows.THREADS:
            return [Line(loop, (rows.ONE_LOOP, rows.TWO_LOOPS)) for loop in loops]
    everybody = with_floor if section == rows.PROTOCOL else loops
    return [Line(rows.connections(count), everybody) for count in rows.ECHO_CONNECTIONS]


def contenders(section: str, settings: Settings) -> tuple[str, ...]:
    """Return the loops that a section compares."""
    if section in rows.TLS_SECTIONS:
        return settings.loops
    return tuple(loop for loop in settings.loops if loop != AIOFASTNET)


def work(section: str, row: str, loop: str, settings: Settings) -> Work:
    """Return what measures one contender in one row."""
    match section:
        case rows.THROUGHPUT:
            return partial(measure.throughput, loop, rows.THROUGHPUT_SIZES[row], settings)
        case rows.MEMORY | rows.TLS_MEMORY:
            return partial(memory.idle, loop, row, settings)
        case rows.WATCHDOG:
            return partial(measure.watchdog, MOTET, loop, settings)
        case rows.TLS_THROUGHPUT:
            return partial(measure.tls_throughput, loop, settings)
        case rows.HANDSHAKES:
            return partial(measure.handshakes, loop, settings)
        case rows.TLS | rows.NATIVE_STREAMS | rows.READLINE:
            return partial(measure.echo, loop, section, rows.MANY_CONNECTIONS, rows.ECHO_SIZE, settings)
        case rows.DATAGRAMS:
            return partial(measure.datagrams, loop, *rows.DATAGRAM_BATCHES[row], settings)
        case rows.WEB:
            return partial(measure.web, loop, row, settings)
        case rows.START:
            return partial(starting.measure, row, loop, settings)
        case rows.THREADS:
            return partial(measure.threads, row, loop, settings)
    count = {rows.connections(count): count for count in rows.ECHO_CONNECTIONS}[row]
    return partial(measure.echo, loop, section, count, rows.ECHO_SIZE, settings)
