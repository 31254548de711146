"""The steps of a run over pools, and the process that each measurement has of its own."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import cast

from harness.plan import Step, recorded, turned
from harness.pools import rows
from harness.processes import MeasurementFailed, NotAvailable, last_line
from harness.settings import BENCHES

LIMIT = 120.0
QUEUED_LIMIT = 600.0


def steps(
    sections: tuple[str, ...], available: tuple[str, ...], rounds: int, sizes: rows.Sizes
) -> list[Step]:
    """Return all steps of a run in their order: the rounds of each section, turned each time."""
    return [
        step
        for section in sections
        for number in range(1 if section in rows.ONE_ROUND else rounds)
        for step in _round(section, number, available, sizes)
    ]


def _round(section: str, number: int, available: tuple[str, ...], sizes: rows.Sizes) -> Iterator[Step]:
    for row in rows.ROWS:
        if row.section != section:
            continue
        for pool in turned(tuple(name for name in row.contenders if name in available), number):
            work = partial(measure, pool, row, sizes)
            yield Step(
                f"{section}, {row.name}, {pool}",
                row.seconds,
                partial(recorded, section, row.name, pool, number, work),
            )


def measure(pool: str, row: rows.Row, sizes: rows.Sizes) -> dict[str, float]:
    """Measure one row of one pool in a process, and end all processes that are left of it."""
    command = [sys.executable, "-m", "harness.pools.child", pool, row.name]
    command.append(json.dumps(dataclasses.asdict(sizes)))
    limit = QUEUED_LIMIT if row.section == rows.QUEUED else LIMIT
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=BENCHES,
        start_new_session=True,
    )
    # A worker that is left holds the pipes open: what counts is that the process itself ends.
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"it did not end within {limit:.0f} seconds") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    if process.returncode < 0:
        raise MeasurementFailed(f"it was ended by signal {-process.returncode}: {last_line(errors)}")
    if process.returncode:
        raise MeasurementFailed(last_line(errors))
    answer = json.loads(output.splitlines()[-1])
    if "missing" in answer:
        raise NotAvailable(answer["missing"])
    if "failed" in answer:
        raise MeasurementFailed(answer["failed"])
    return cast(dict[str, float], answer["values"])
