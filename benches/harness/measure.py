"""One function for each kind of measurement; each returns the values of one loop in one round."""

import sys
from typing import cast

from harness import rows
from harness.processes import EchoServer, MeasurementFailed, run_client, run_json
from harness.records import Record
from harness.settings import BENCHES, Settings

MICRO_LIMIT = 120.0
MEBIBYTE = 1024 * 1024


def micro(loop: str, number: int, settings: Settings) -> list[Record]:
    """Run all microbenchmarks of a loop in one process."""
    command = [sys.executable, str(BENCHES / "micro.py"), "--loop", loop, "--cpu", str(settings.server_cpu)]
    command += ["--seconds", str(settings.micro_seconds)]
    try:
        outcome = cast(dict[str, dict[str, float] | str], run_json(command, MICRO_LIMIT))
    except MeasurementFailed as failure:
        outcome = dict.fromkeys(rows.MICRO_ROWS, str(failure))
    return [
        Record(rows.MICRO, row, loop, number, failure=values)
        if isinstance(values, str)
        else Record(rows.MICRO, row, loop, number, values)
        for row, values in outcome.items()
    ]


def echo(loop: str, style: str, connections: int, size: int, settings: Settings) -> dict[str, float]:
    """Measure an echo server under load."""
    with EchoServer(loop, style, settings) as server:
        return run_client(server, connections, size, settings, lines=style == rows.READLINE)


def throughput(loop: str, size: int, settings: Settings) -> dict[str, float]:
    """Measure how many bytes a protocol echoes; those of one direction count."""
    values = echo(loop, rows.PROTOCOL, rows.THROUGHPUT_CONNECTIONS, size, settings)
    return {**values, rows.MIB_PER_SECOND: values["requests_per_second"] * size / MEBIBYTE}


def watchdog(loop: str, switch: str, settings: Settings) -> dict[str, float]:
    """Measure the protocol echo with motet's watchdog on or off."""
    environment = {"MOTET_WATCHDOG": "0"} if switch == rows.WATCHDOG_OFF else {}
    with EchoServer(loop, rows.PROTOCOL, settings, environment) as server:
        return run_client(server, rows.WATCHDOG_CONNECTIONS, rows.ECHO_SIZE, settings)
