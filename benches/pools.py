"""Measure motet's worker pools beside their rivals in one run; print each ratio beside what it must reach."""

import argparse
import platform
import sys
import sysconfig

from harness import command, machine, setup
from harness.pools import rows, running
from harness.pools.contenders import MOTET, POOLS, RAY
from harness.pools.report import report
from harness.records import Results
from harness.settings import BENCHES

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
REMEDY = "or install nothing: --no-install"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Needs Linux. Installs benches/requirements-pools.txt into its own virtual environment. The "
        "default run takes about fifteen minutes on two cores.",
    )
    parser.add_argument(
        "--rows",
        type=command.names(rows.SECTIONS),
        default=rows.SECTIONS,
        help=f"of {','.join(rows.SECTIONS)} (default: all)",
    )
    parser.add_argument(
        "--rounds", type=command.positive_int, default=3, help="rounds of each row (default: %(default)s)"
    )
    parser.add_argument(
        "--ray", action="store_true", help="also install Ray, which is large; it takes part once it is there"
    )
    parser.add_argument("--no-install", action="store_true", help="take the rivals that are there")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="see whether everything runs: one short round, figures without worth",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="also write benches/RESULTS-pools.md, and all rounds to benches/results-pools.json; a Python "
        "without GIL writes RESULTS-pools-free-threaded.md, with whatever --rows there are",
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("the figures of --quick are not worth writing; leave out --quick or --write")
    if arguments.write and not FREE_THREADED and arguments.rows != rows.SECTIONS:
        parser.error("RESULTS-pools.md comes from one whole run; leave out --write or --rows")
    return arguments


def _install(with_ray: bool) -> None:
    """Install the rivals; one that cannot be installed does not take part, and the table says so."""
    print("installing the rivals", file=sys.stderr, flush=True)
    for requirements in ("requirements-pools.txt", *(("requirements-ray.txt",) if with_ray else ())):
        try:
            setup.install(requirements, REMEDY)
        except setup.SetupFailed as failure:
            print(f"pools: {failure}", file=sys.stderr)


def main() -> int:
    """Set up, measure, print; return the exit status."""
    arguments = _arguments()
    if platform.system() != "Linux":
        print("pools: the benchmarks read memory from Linux's /proc; run them there", file=sys.stderr)
        return 2
    if not arguments.no_install:
        _install(arguments.ray)
    contenders = [machine.find(name, "harness.pools.contenders") for name in POOLS]
    available = tuple(found.name for found in contenders if found.version is not None)
    if MOTET not in available:
        print(f"pools: motet is {contenders[POOLS.index(MOTET)]}; run 'make bench'", file=sys.stderr)
        return 2
    if RAY not in available:
        print("pools: Ray is not installed; --ray installs it", file=sys.stderr)
    sizes = rows.QUICK if arguments.quick else rows.FULL
    rounds = 1 if arguments.quick else arguments.rounds
    described = {
        **machine.describe_machine(),
        "rounds": f"{rounds}; {', '.join(rows.ONE_ROUND)} 1",
        **({"worth": "none: this was a quick run, with less of everything"} if arguments.quick else {}),
    }
    records = command.measure(running.steps(arguments.rows, available, rounds, sizes))
    text = report(described, contenders, arguments.rows, Results(records))
    command.show(text)
    if arguments.write:
        name = "RESULTS-pools-free-threaded.md" if FREE_THREADED else "RESULTS-pools.md"
        (BENCHES / name).write_text(text)
        command.write_rounds(BENCHES / "results-pools.json", described, contenders, records)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("pools: interrupted; nothing was written")
