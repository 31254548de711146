"""One function for each kind of measurement; each returns the values of one loop in one round."""

import sys
from typing import cast

from harness import rows
from harness.processes import MeasurementFailed, NotAvailable, Server, run_client, run_json
from harness.records import Record
from harness.settings import BENCHES, Settings

MICRO_LIMIT = 120.0
THREADS_LIMIT = 60.0
MEBIBYTE = 1024 * 1024
# What the client must be told of a style of server.
TALK = {rows.TLS: ("--tls",), rows.READLINE: ("--lines",)}


def micro(section: str, loop: str, number: int, settings: Settings) -> list[Record]:
    """Run all microbenchmarks of a loop in one process, or those of tasks with the loop's own task."""
    command = [sys.executable, str(BENCHES / "micro.py"), "--loop", loop, "--cpu", str(settings.server_cpu)]
    command += ["--seconds", str(settings.micro_seconds)]
    command += ["--native-tasks"] if section == rows.NATIVE_TASKS else []
    every_row = rows.TASK_ROWS if section == rows.NATIVE_TASKS else rows.MICRO_ROWS
    try:
        outcome = cast(dict[str, dict[str, float] | str], run_json(command, MICRO_LIMIT))
    except NotAvailable as reason:
        return [Record(section, row, loop, number, missing=str(reason)) for row in every_row]
    except MeasurementFailed as failure:
        outcome = dict.fromkeys(every_row, str(failure))
    return [
        Record(section, row, loop, number, failure=values)
        if isinstance(values, str)
        else Record(section, row, loop, number, values)
        for row, values in outcome.items()
    ]


def echo(loop: str, style: str, connections: int, size: int, settings: Settings) -> dict[str, float]:
    """Measure an echo server under load."""
    with Server(loop, style, settings) as server:
        return run_client(server, connections, size, settings, *TALK.get(style, ()))


def throughput(loop: str, size: int, settings: Settings, style: str = rows.PROTOCOL) -> dict[str, float]:
    """Measure how many bytes a protocol echoes; those of one direction count."""
    values = echo(loop, style, rows.THROUGHPUT_CONNECTIONS, size, settings)
    return {**values, rows.MIB_PER_SECOND: values["requests_per_second"] * size / MEBIBYTE}


def tls_throughput(loop: str, settings: Settings) -> dict[str, float]:
    """Measure how many bytes a protocol echoes through TLS."""
    return throughput(loop, rows.THROUGHPUT_SIZES[rows.TLS_THROUGHPUT_ROW], settings, rows.TLS)


def handshakes(loop: str, settings: Settings) -> dict[str, float]:
    """Measure connections that shake hands and close; each counts as one request."""
    with Server(loop, rows.TLS, settings) as server:
        return run_client(server, rows.HANDSHAKES_AT_ONCE, 0, settings, "--handshakes")


def datagrams(loop: str, batch: int, clients: int, settings: Settings) -> dict[str, float]:
    """Measure a UDP echo; one request of the result is one datagram."""
    with Server(loop, rows.DATAGRAMS, settings) as server:
        values = run_client(server, clients, rows.ECHO_SIZE, settings, "--datagrams", str(batch))
    return {**values, **{name: values[name] * batch for name in ("requests", rows.REQUESTS_PER_SECOND)}}


def web(loop: str, style: str, settings: Settings) -> dict[str, float]:
    """Measure a web server's hello-world."""
    with Server(loop, style, settings) as server:
        return run_client(server, rows.MANY_CONNECTIONS, 0, settings, "--http", rows.HTTP_BODY)


def watchdog(loop: str, switch: str, settings: Settings) -> dict[str, float]:
    """Measure the protocol echo with motet's watchdog on or off."""
    environment = {"MOTET_WATCHDOG": "0"} if switch == rows.WATCHDOG_OFF else {}
    with Server(loop, rows.PROTOCOL, settings, environment) as server:
        return run_client(server, rows.MANY_CONNECTIONS, rows.ECHO_SIZE, settings)


def threads(loop: str, count: str, settings: Settings) -> dict[str, float]:
    """Measure an echo on one loop or on two at once, each in a thread with a processor of its own."""
    if settings.server_cpu == settings.client_cpu:
        raise NotAvailable("there is only one processor")
    cpus = (settings.server_cpu, settings.client_cpu)[: 1 if count == rows.ONE_LOOP else 2]
    command = [sys.executable, str(BENCHES / "threads.py"), "--loop", loop]
    command += ["--cpus", ",".join(map(str, cpus)), "--seconds", str(settings.seconds)]
    return cast(dict[str, float], run_json(command, THREADS_LIMIT + settings.seconds))
