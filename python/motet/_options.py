"""The command's options, and what it says of itself.

Imported only where there is something to read or to say: argparse takes longer than all else that the
launcher needs.
"""

import argparse
import platform

import motet

# Milliseconds of a day.
LONGEST = 86_400_000

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
  --pools               ProcessPoolExecutor, ThreadPoolExecutor and multiprocessing.Pool are motet's
  -h, --help            show this help and exit

Options of the interpreter go before motet: python -X dev -W error -m motet run script.py"""


def parser() -> argparse.ArgumentParser:
    """What reads a command line that is not `motet run`."""
    parser = argparse.ArgumentParser(
        prog="motet", description="One Rust runtime under asyncio.", allow_abbrev=False
    )
    version = f"motet {motet.__version__} ({platform.python_implementation()} {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    commands.add_parser("run", help="run a program, unmodified, on motet's event loop; see motet run --help")
    return parser


def run_parser() -> argparse.ArgumentParser:
    """What reads the options of `motet run` into an object that has what holds without them."""
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
    parser.add_argument("--blocked-after", type=_milliseconds, metavar="MILLISECONDS", help=hidden)
    parser.add_argument("--native-tasks", action="store_true", help=hidden)
    parser.add_argument("--native-streams", action="store_true", help=hidden)
    parser.add_argument("--pools", action="store_true", help=hidden)
    return parser


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds; give 0 to {LONGEST}")
    return value
