"""Measure motet beside its rivals in one run, and print each ratio beside what it must reach."""

import argparse
import platform
import sys
import sysconfig
import tempfile
from pathlib import Path

from harness import command, machine, memory, plan, rows, sections, setup
from harness.loops import LOOPS
from harness.records import Results
from harness.report import report
from harness.settings import BENCHES, Settings, processors

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Needs Linux and cargo. Installs benches/requirements.txt into its own virtual environment. "
        "The default run takes about twenty minutes on two cores.",
    )
    parser.add_argument(
        "--rows",
        type=command.names(rows.SECTIONS),
        default=rows.SECTIONS,
        help=f"of {','.join(rows.SECTIONS)} (default: all)",
    )
    parser.add_argument(
        "--loops",
        type=command.names(LOOPS),
        default=LOOPS,
        help=f"of {','.join(LOOPS)} (default: all; the floor always runs)",
    )
    parser.add_argument(
        "--rounds",
        type=command.positive_int,
        default=3,
        help="rounds of each row; microbenchmarks take 2, starts 8, watchdog 16 times as many (default: 3)",
    )
    parser.add_argument(
        "--seconds",
        type=command.positive_float,
        default=1.5,
        help="length of each echo measurement (default: %(default)s)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="see whether everything runs: one short round, figures without worth",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="also write benches/RESULTS.md, and all rounds to benches/results.json; a Python without GIL "
        "writes RESULTS-free-threaded.md, with whatever --rows there are",
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("the figures of --quick are not worth writing; leave out --quick or --write")
    if arguments.write and not FREE_THREADED and (arguments.rows, arguments.loops) != (rows.SECTIONS, LOOPS):
        parser.error("RESULTS.md comes from one whole run; leave out --write, or --rows and --loops")
    return arguments


def _settings(arguments: argparse.Namespace, loops: tuple[str, ...], certificate: Path) -> Settings:
    quick = arguments.quick
    server_cpu, client_cpu = processors()
    return Settings(
        sections=arguments.rows,
        loops=loops,
        rounds=1 if quick else arguments.rounds,
        seconds=0.2 if quick else arguments.seconds,
        micro_seconds=0.02 if quick else 0.25,
        idle_connections=memory.raise_descriptor_limit(1_000 if quick else rows.IDLE_CONNECTIONS),
        idle_tls_connections=memory.raise_descriptor_limit(200 if quick else rows.IDLE_TLS_CONNECTIONS),
        server_cpu=server_cpu,
        client_cpu=client_cpu,
        certificate=certificate,
    )


def _describe(settings: Settings, quick: bool) -> dict[str, str]:
    rounds = {section: sections.rounds(section, settings) for section in settings.sections}
    apart = settings.server_cpu != settings.client_cpu
    described = {
        **machine.describe(),
        "rounds": ", ".join(f"{section} {count}" for section, count in rounds.items()),
        "length": f"{settings.seconds} s a server and round, {settings.micro_seconds} s a microbenchmark",
        "processors": f"server on {settings.server_cpu}, client on {settings.client_cpu}"
        + ("" if apart else ": they disturb each other"),
        "idle connections": f"{settings.idle_connections:,}, through TLS {settings.idle_tls_connections:,}",
    }
    return {**described, "worth": "none: this was a quick run"} if quick else described


def main() -> int:
    """Set up, measure, print; return the exit status."""
    arguments = _arguments()
    if platform.system() != "Linux":
        print(
            "benches: the benchmarks read the server's figures from Linux's /proc; run them there",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="motet-bench-") as folder:
        return _run(arguments, Path(folder))


def _run(arguments: argparse.Namespace, folder: Path) -> int:
    print("installing the rivals and building the floor", file=sys.stderr, flush=True)
    try:
        setup.install_rivals(arguments.loops, arguments.rows)
        setup.build_floor()
        certificate = setup.make_certificate(folder)
    except setup.SetupFailed as failure:
        print(f"benches: {failure}", file=sys.stderr)
        return 2
    contenders = [machine.find(name) for name in arguments.loops]
    available = tuple(found.name for found in contenders if found.version is not None)
    settings = _settings(arguments, available, certificate)
    described = _describe(settings, arguments.quick)
    records = command.measure(plan.steps(settings))
    text = report(described, contenders, settings.sections, Results(records))
    command.show(text)
    if arguments.write:
        (BENCHES / ("RESULTS-free-threaded.md" if FREE_THREADED else "RESULTS.md")).write_text(text)
        command.write_rounds(BENCHES / "results.json", described, contenders, records)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("benches: interrupted; nothing was written")
