"""What a run needs before it can measure: pinned rivals, the floor built, a certificate."""

import shutil
import subprocess
import sys
from pathlib import Path

from harness import rows
from harness.loops import MOTET, STOCK
from harness.processes import FLOOR_PROGRAM, last_line
from harness.settings import BENCHES


class SetupFailed(Exception):
    """Something that the run needs cannot be had; the text says what, and what to do."""


def install_rivals(loops: tuple[str, ...], sections: tuple[str, ...]) -> None:
    """Install the pinned rivals and web servers into this virtual environment, if any of them is wanted."""
    if not set(loops) - {STOCK, MOTET} and rows.WEB not in sections:
        return
    without = ",".join(section for section in sections if section != rows.WEB) or rows.MICRO
    remedy = f"or run without them: --loops {STOCK},{MOTET} --rows {without}"
    install("requirements.txt", remedy)


def install(requirements: str, remedy: str) -> None:
    """Install a file of pinned packages into this virtual environment; `remedy` says how to do without."""
    if sys.prefix == sys.base_prefix:
        raise SetupFailed(
            f"the rivals are installed into virtual environments only; run 'make bench', {remedy}"
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--requirement", str(BENCHES / requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = last_line(done.stderr).removeprefix("ERROR: ")
        raise SetupFailed(f"cannot install benches/{requirements}: {reason}; check the network, {remedy}")


def build_floor() -> None:
    """Build the Rust server and client in release mode."""
    if shutil.which("cargo") is None:
        raise SetupFailed(
            "the load client is a Rust program and cargo was not found; install Rust, then try again"
        )
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    done = subprocess.run(
        [*command, "--manifest-path", str(BENCHES / "floor" / "Cargo.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        reason = errors[0] if errors else last_line(done.stderr)
        raise SetupFailed(f"cannot build benches/floor: {reason}; 'cargo build' in benches/floor tells more")


def make_certificate(folder: Path) -> Path:
    """Make the certificate of the TLS servers, in a folder of the run's own."""
    path = folder / "certificate.pem"
    done = subprocess.run([FLOOR_PROGRAM, "certificate", path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupFailed(last_line(done.stderr))
    return path
