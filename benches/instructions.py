"""Count the user-space instructions of one operation, for each loop, under valgrind's callgrind.

What it counts does not depend on what else the machine does, unlike time; it says nothing of caches and of
the kernel. Each figure is the difference between a short and a long run, divided by the operations between.
"""

import argparse
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import micro
from harness import loops, machine, rows, tables
from harness.processes import MeasurementFailed, last_line
from harness.settings import BENCHES

# So often a microbenchmark is repeated: what a loop keeps for reuse is there after the first time.
SHORT, LONG = 2, 12
OPERATIONS = 1_000
ECHO_CONNECTIONS = 64
ECHO_SHORT, ECHO_LONG = 20, 120
STYLES = (rows.PROTOCOL, rows.STREAMS, rows.SOCK)
START_LIMIT = 60.0
END_LIMIT = 60.0
TARGET = BENCHES / "INSTRUCTIONS.md"


def _valgrind(output: Path, command: list[str]) -> list[str]:
    return [
        *("valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"),
        *(sys.executable, *command),
    ]


def _total(output: Path) -> int:
    found = re.search(r"^totals: (\d+)", output.read_text(errors="replace"), re.MULTILINE)
    if found is None:
        raise MeasurementFailed("callgrind wrote no total")
    return int(found[1])


def _count_micro(loop: str, row: str, repeats: int, output: Path) -> int:
    command = [str(Path(__file__)), "--child", loop, row, str(repeats)]
    done = subprocess.run(
        _valgrind(output, command), capture_output=True, text=True, cwd=BENCHES, check=False
    )
    if done.returncode:
        raise MeasurementFailed(last_line(done.stderr))
    return _total(output)


def _run_micro(loop: str, row: str, repeats: int) -> None:
    event_loop = loops.new_event_loop(loop)
    for _ in range(repeats):
        micro.BENCHMARKS[row][0](event_loop, OPERATIONS)
    event_loop.close()


def _count_echo(loop: str, style: str, rounds: int, output: Path) -> int:
    command = [str(BENCHES / "servers.py"), "--loop", loop, "--style", style]
    with subprocess.Popen(
        _valgrind(output, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            _echo(int(server.stdout.readline()), rounds)
            # Valgrind writes its total when a signal ends the program, too.
            server.terminate()
            server.wait(END_LIMIT)
        except (ValueError, OSError, subprocess.TimeoutExpired) as error:
            raise MeasurementFailed(f"the {loop} server failed: {error}") from error
        finally:
            server.kill()
    return _total(output)


def _echo(port: int, rounds: int) -> None:
    """Send one message on every connection, then read all the echoes, so many times."""
    message = bytes(rows.ECHO_SIZE)
    connections = [
        socket.create_connection(("127.0.0.1", port), START_LIMIT) for _ in range(ECHO_CONNECTIONS)
    ]
    for _ in range(rounds):
        for connection in connections:
            connection.sendall(message)
        for connection in connections:
            left = len(message)
            while left:
                left -= len(connection.recv(left))
    for connection in connections:
        connection.close()


def _instructions(loop: str, row: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind"
        if row in STYLES:
            counts = [_count_echo(loop, row, rounds, output) for rounds in (ECHO_SHORT, ECHO_LONG)]
            operations = (ECHO_LONG - ECHO_SHORT) * ECHO_CONNECTIONS
        else:
            counts = [_count_micro(loop, row, repeats, output) for repeats in (SHORT, LONG)]
            operations = (LONG - SHORT) * OPERATIONS
    return (counts[1] - counts[0]) / operations


def _describe(contenders: list[machine.Contender]) -> str:
    versions = ", ".join(f"{found.name} {found}" for found in contenders)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.machine()}; {versions}."


def _report(figures: dict[str, dict[str, float | None]], contenders: list[machine.Contender]) -> str:
    names = [found.name for found in contenders]
    lines = []
    for row, counts in figures.items():
        rivals = [count for loop, count in counts.items() if loop != loops.MOTET and count is not None]
        own = counts.get(loops.MOTET)
        share = own / min(rivals) if own is not None and rivals else None
        name = f"{row} echo, {ECHO_CONNECTIONS} connections" if row in STYLES else row
        lines.append([name, *(tables.number(counts[loop]) for loop in names), tables.number(share)])
    return "\n".join(
        [
            "# Instructions",
            "",
            "User-space instructions of one operation, counted by callgrind (`benches/instructions.py`):",
            "free of the noise of a shared machine, and blind to caches and to the kernel. The last column",
            "is motet's share of the best rival's.",
            "",
            _describe(contenders),
            "",
            tables.table(["", *names, "share"], lines),
            "",
        ]
    )


def main() -> int:
    """Count, print; return the exit status."""
    known = (*rows.MICRO_ROWS, *STYLES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=known, default=known, metavar="ROW", help="default: all")
    parser.add_argument("--loops", nargs="+", choices=loops.LOOPS, default=loops.LOOPS, metavar="LOOP")
    parser.add_argument("--write", action="store_true", help=f"also write {TARGET.name}")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        loop, row, repeats = arguments.child
        _run_micro(loop, row, int(repeats))
        return 0
    if shutil.which("valgrind") is None:
        print("instructions: valgrind was not found; on Debian: 'apt-get install valgrind'", file=sys.stderr)
        return 2
    contenders = [found for found in map(machine.find, arguments.loops) if found.version is not None]
    figures: dict[str, dict[str, float | None]] = {}
    for row in arguments.rows:
        figures[row] = {}
        for found in contenders:
            print(f"{row}: {found.name}", file=sys.stderr, flush=True)
            try:
                figures[row][found.name] = _instructions(found.name, row)
            except MeasurementFailed as failure:
                print(f"  failed: {failure}", file=sys.stderr)
                figures[row][found.name] = None
    text = _report(figures, contenders)
    print(text, end="")
    if arguments.write:
        TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
