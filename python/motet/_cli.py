"""The command `motet`: reads the command line and starts what it asks for.

`motet run [options] script.py [arguments]` ends its own options at the script or at `-m`, as python does, so
that a program may have options of the same names.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import motet
from motet import _launch, _streams, _tasks

RUN_USAGE = """motet run [options] script.py [arguments ...]
       motet run [options] -m module [arguments ...]"""

# Written by hand, because argparse cannot show that --report takes its file after "=" only.
RUN_DESCRIPTION = """\
Run a program, unmodified, on motet's event loop: asyncio.run, asyncio.Runner, asyncio.new_event_loop and
the default event loop policy give motet's loop. A program that names another loop explicitly keeps it.

The program is a script, a directory or zip file with a __main__.py, '-' for standard input, or
'-m module'. All that follows it belongs to the program.

options:
  --report              tell at the end where the time went, on standard error
  --report=FILE.json    the same, as JSON into a file
  --blocked-after=MILLISECONDS
                        record every place that holds the loop longer than this
                        (default: 100; 0 switches the watchdog off)
  --native-tasks        tasks and futures are motet's own, faster than asyncio's
  --native-streams      asyncio.open_connection, asyncio.start_server and their Unix kin give motet's
                        streams, which are faster
  -h, --help            show this help and exit

Options of the interpreter go before motet: python -X dev -W error -m motet run script.py"""

OPTIONS_WITH_VALUE = {"--blocked-after"}
USAGE_ERROR = 2


class _Refused(Exception):
    """The command line asks for what cannot be done."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        own, program = _split(words[1:])
        return _run(_run_parser().parse_args(own), program)
    _parser().parse_args(words)
    return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="motet", description="One Rust runtime under asyncio.", allow_abbrev=False
    )
    version = f"motet {motet.__version__} ({platform.python_implementation()} {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    commands.add_parser("run", help="run a program, unmodified, on motet's event loop; see motet run --help")
    return parser


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="motet run",
        usage=RUN_USAGE,
        description=RUN_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    hidden = argparse.SUPPRESS
    parser.add_argument("-h", "--help", action="help", help=hidden)
    parser.add_argument("--report", nargs="?", const="", help=hidden)
    parser.add_argument(
        "--blocked-after", type=_milliseconds, default=100.0, metavar="MILLISECONDS", help=hidden
    )
    parser.add_argument("--native-tasks", action="store_true", help=hidden)
    parser.add_argument("--native-streams", action="store_true", help=hidden)
    return parser


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds; give 0 or more")
    return value


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the command's own options from the program and its arguments."""
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "-":
        word = words[index]
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        if word.startswith("-m"):
            break
        index += 2 if word in OPTIONS_WITH_VALUE else 1
    return list(words[:index]), list(words[index:])


def _run(options: argparse.Namespace, words: list[str]) -> int:
    if not words:
        return _refuse("no program; give a script, a directory, a zip file, '-' or -m module")
    try:
        program = _load(words)
        if options.report is not None:
            _start_report(options, words)
    except (_launch.CannotOpen, _Refused) as problem:
        return _refuse(str(problem))
    _launch.install(_tasks.loops_with(motet.task_factory if options.native_tasks else None))
    if options.native_streams:
        _streams.install()
    _launch.watch_blocking(motet.EventLoop, options.blocked_after / 1000)
    _launch.run(program)
    return 0


def _load(words: list[str]) -> _launch.Program:
    first, rest = words[0], words[1:]
    if not first.startswith("-m"):
        return _launch.load_path(first, rest)
    named = [first[2:], *rest] if first != "-m" else rest
    if not named:
        raise _Refused("-m needs the name of a module")
    return _launch.load_module(named[0], named[1:])


def _start_report(options: argparse.Namespace, words: list[str]) -> None:
    from motet import _report

    target = None
    if options.report:
        target = Path(os.path.abspath(options.report))
        if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
            raise _Refused(
                f"cannot write the report to {options.report!r}; give a file in a writable directory"
            )
    _report.start(motet.EventLoop, words, options.blocked_after, target)


def _refuse(problem: str) -> int:
    print(f"motet run: {problem}", file=sys.stderr)
    return USAGE_ERROR
