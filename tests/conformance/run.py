#!/usr/bin/env python3
"""Runs CPython's and uvloop's asyncio tests, unmodified, on an event loop; compares with what is known."""

import argparse
import sys
import textwrap
import time
from collections import Counter

from conformance_harness.expectations import (
    EXCLUDED,
    EXPECTED_FAILURE,
    WAITING,
    entries_for,
    is_excluded_whole,
)
from conformance_harness.loops import LOOPS, is_installed
from conformance_harness.suites import SUITES, Suite
from conformance_harness.summary import write_summary
from conformance_harness.verdicts import Report, check_module

NAMES_SHOWN = 10
STATUSES = ["passed", EXPECTED_FAILURE, WAITING, EXCLUDED, "skipped", "failed"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="exit status: 0 everything as known, 1 something else, 2 nothing could be run",
    )
    parser.add_argument(
        "--loop", choices=LOOPS, default="motet", help="the event loop under test (default: %(default)s)"
    )
    parser.add_argument("--suite", choices=list(SUITES), help="one suite only (default: all)")
    parser.add_argument(
        "--module", action="append", metavar="NAME", help="one module only, such as test_streams; repeatable"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="limit for one test (default: 30)"
    )
    parser.add_argument(
        "--details", action="store_true", help="print every unexpected result with its whole traceback"
    )
    parser.add_argument("--list", action="store_true", help="print each test and where it stands; run none")
    parser.add_argument(
        "--write-summary", action="store_true", help="write the results and lists into README.md"
    )
    arguments = parser.parse_args()
    is_partial = arguments.module or arguments.list or arguments.loop != "motet"
    if arguments.write_summary and is_partial:
        parser.error("--write-summary needs whole suites on motet: leave out --module, --list and --loop")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if not is_installed(arguments.loop):
        print(
            f"{arguments.loop} is not installed in {sys.prefix}: build or install it there", file=sys.stderr
        )
        return 2
    reports: list[Report] = []
    for suite in [SUITES[arguments.suite]] if arguments.suite else SUITES.values():
        if suite.needs_motet() and arguments.loop != "motet":
            continue
        reason = suite.unavailable()
        if reason is not None:
            print(f"{suite.title}: skipped: {reason}")
            continue
        reports += run_suite(suite, arguments)
    if not reports:
        print("no test module was run; --list shows the modules that there are", file=sys.stderr)
        return 2
    if arguments.list:
        return 0
    print_total(reports)
    if arguments.write_summary:
        write_summary(reports)
    return 0 if all(report.is_clean() for report in reports) else 1


def run_suite(suite: Suite, arguments: argparse.Namespace) -> list[Report]:
    """Run the suite's modules, one after the other, each printed as it ends."""
    modules = [name for name in suite.list_modules() if not arguments.module or name in arguments.module]
    if not modules:
        return []
    print(f"{suite.title} on {arguments.loop}")
    reports: list[Report] = []
    entries = entries_for(suite.name, arguments.loop)
    for module in modules:
        started = time.monotonic()
        show_progress(f"  {module} ...")
        run_tests = not arguments.list and not is_excluded_whole(entries, module)
        report = check_module(suite, module, arguments.loop, arguments.timeout, run_tests)
        show_progress("")
        if arguments.list:
            print_list(report)
        else:
            print_report(report, time.monotonic() - started, arguments.details)
        reports.append(report)
    return reports


def show_progress(text: str) -> None:
    """On a terminal, a line that the next one overwrites."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


def colour(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() else text


def print_list(report: Report) -> None:
    for verdict in report.verdicts:
        status = "to run" if verdict.status == "not run" else verdict.status
        print(f"  {status:<18}{verdict.outcome.test}")


def print_report(report: Report, seconds: float, details: bool) -> None:
    mark = colour("ok    ", 32) if report.is_clean() else colour("FAILED", 31)
    print(f"  {mark}  {report.module:<24} {seconds:6.1f} s   {describe_counts(report.counts())}", flush=True)
    for problem, verdicts in report.grouped_problems().items():
        print(f"    {len(verdicts)} x {problem}")
        for verdict in verdicts if details else verdicts[:NAMES_SHOWN]:
            print(f"        {verdict.outcome.test}")
            if details:
                print(textwrap.indent(verdict.problem, " " * 12))
        if not details and len(verdicts) > NAMES_SHOWN:
            print(f"        and {len(verdicts) - NAMES_SHOWN} more (--details names them)")
    for pattern in report.stale:
        print(f"      {pattern}: the entry matches no test; remove it or correct it")


def print_total(reports: list[Report]) -> None:
    total: Counter[str] = Counter()
    for report in reports:
        total += report.counts()
    print(f"total: {describe_counts(total)}")


def describe_counts(counts: Counter[str]) -> str:
    named = {"failed": "unexpected"}
    return ", ".join(f"{counts[status]} {named.get(status, status)}" for status in STATUSES if counts[status])


if __name__ == "__main__":
    sys.exit(main())
