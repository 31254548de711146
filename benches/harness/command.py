"""What the programs have in common: options, the run itself, and what is printed and written."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from harness.machine import Contender
from harness.plan import Step
from harness.progress import Progress
from harness.records import Record

COLOURS = {" met |": "\x1b[32m met\x1b[0m |", " missed |": "\x1b[31m missed\x1b[0m |"}


def names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Return what parses some of these names, separated by commas."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return tuple(name for name in known if name in chosen)

    return parse


def positive_int(text: str) -> int:
    """Parse a whole number above zero."""
    if (value := int(text)) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def positive_float(text: str) -> float:
    """Parse a number of seconds."""
    if not 0 < (value := float(text)) < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between zero and an hour")
    return value


def measure(steps: list[Step]) -> list[Record]:
    """Run all steps; what fails is told, and does not end the run."""
    records: list[Record] = []
    with Progress(steps) as progress:
        for step in steps:
            progress.begin(step)
            done = step.run()
            records += done
            for record in done:
                if record.failure is not None:
                    progress.note(f"failed: {record.section}, {record.row}, {record.loop}: {record.failure}")
    return records


def show(text: str) -> None:
    """Print a report, outcomes in colours where somebody looks."""
    if sys.stdout.isatty():
        for plain, coloured in COLOURS.items():
            text = text.replace(plain, coloured)
    print(text, end="")


def write_rounds(
    path: Path, described: dict[str, str], contenders: list[Contender], records: list[Record]
) -> None:
    """Write every round of a run as JSON."""
    raw = {"run": described, "contenders": {found.name: str(found) for found in contenders}}
    rounds = [dataclasses.asdict(record) for record in records]
    path.write_text(json.dumps({**raw, "rounds": rounds}, indent=1) + "\n")
