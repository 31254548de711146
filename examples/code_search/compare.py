"""Run the code search under `motet run --report` and under plain Python, and print both times side by side.

Two things are compared. The whole program, once each: most of it parses in worker processes, by motet.amap
here and by concurrent.futures there. And its crawl alone, server and client over loopback in one process, in
alternating rounds: there only the event loop matters.
"""

import argparse
import importlib.util
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).with_name("main.py")
CRAWL_TIMES = re.compile(r"^crawl +([\d.]+) +([\d.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds on the clock, and of processor time."""

    wall: float
    processor: float


def run_whole(command: list[str]) -> Times:
    """Run the program with its output in view. The processor time includes its worker processes."""
    print(f"$ {shlex.join(command)}", flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    print(flush=True)
    if process.returncode:
        sys.exit(f"compare: the program above failed with exit code {process.returncode}: nothing to compare")
    return Times(wall, usage.ru_utime + usage.ru_stime)


def run_crawl(command: list[str]) -> Times:
    """Run the crawl alone; the program itself says how long it took, start-up left out."""
    finished = subprocess.run([*command, "--crawl-only", "--no-progress"], stdout=subprocess.PIPE, text=True)
    times = CRAWL_TIMES.search(finished.stdout)
    if finished.returncode or times is None:
        sys.exit(f"compare: {shlex.join(finished.args)} failed with exit code {finished.returncode}")
    return Times(float(times[1]), float(times[2]))


def median(rounds: list[Times]) -> Times:
    return Times(
        statistics.median(times.wall for times in rounds),
        statistics.median(times.processor for times in rounds),
    )


def print_table(title: str, motet: Times, plain: Times) -> None:
    """Both times, and what part of plain asyncio's time motet takes."""
    print(title)
    print(f"{'':10}{'wall, s':>12}{'CPU, s':>12}{'wall, ratio':>14}{'CPU, ratio':>14}")
    for name, times in (("motet", motet), ("asyncio", plain)):
        ratios = f"{times.wall / plain.wall:14.2f}{times.processor / plain.processor:14.2f}"
        print(f"{name:10}{times.wall:12.2f}{times.processor:12.2f}{ratios}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time the code search on motet and on asyncio. Other options go to the search.",
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of the crawl (default: 3)")
    options, arguments = parser.parse_known_args()
    if importlib.util.find_spec("motet") is None:
        sys.exit(f"compare: motet is not installed for {sys.executable}: run 'make demo', or 'pip install .'")

    program = [str(PROGRAM), *arguments]
    plain_command = [sys.executable, *program, "--pool", "futures"]
    print("one crawl that does not count, to fill the file cache", file=sys.stderr, flush=True)
    run_crawl(plain_command)
    motet = run_whole([sys.executable, "-m", "motet", "run", "--report", *program])
    plain = run_whole(plain_command)

    motet_rounds: list[Times] = []
    plain_rounds: list[Times] = []
    runs = [([sys.executable, "-m", "motet", "run", *program], motet_rounds), (plain_command, plain_rounds)]
    for number in range(options.rounds):
        print(f"the crawl alone, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        for command, rounds in runs if number % 2 == 0 else reversed(runs):
            rounds.append(run_crawl(command))

    print_table(
        "the whole program with start-up and worker processes, one run each: a rough figure", motet, plain
    )
    if options.rounds > 0:
        title = f"the crawl alone, server and client in one process, median of {options.rounds} rounds"
        print_table(title, median(motet_rounds), median(plain_rounds))


if __name__ == "__main__":
    main()
