"""How long it takes to start: an import, and an empty program."""

import os
import subprocess
import sys
import time
from pathlib import Path

from harness import rows
from harness.loops import STOCK
from harness.processes import MeasurementFailed, last_line
from harness.settings import BENCHES, Settings

LIMIT = 30.0


def measure(row: str, contender: str, settings: Settings) -> dict[str, float]:
    """Start a process, wait for its end, and return how long that took.

    It runs once before: what is compiled or read from a disk at the first start is not the loop's.
    """
    command = _command(row, contender)
    _run(command)
    return {rows.MILLISECONDS: _run(command) * 1e3}


def _command(row: str, contender: str) -> list[str]:
    plain = contender == rows.PLAIN
    if row == rows.IMPORT:
        # motet's names are loaded when they are asked for: this one brings the loop.
        program = f"import {STOCK}" if plain else f"import {STOCK}, {contender}; {contender}.run"
        return [sys.executable, "-c", program]
    program = str(BENCHES / "empty.py")
    if plain:
        return [sys.executable, program]
    return [str(Path(sys.executable).parent / contender), "run", program]


def _run(command: list[str]) -> float:
    # An installed package is compiled, so this one may be as well.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasurementFailed(str(error)) from error
    elapsed = time.perf_counter() - begin
    if done.returncode:
        raise MeasurementFailed(last_line(done.stderr))
    return elapsed
