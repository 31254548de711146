"""What a run needs before it can measure: the rivals at their pinned versions, and the floor, built."""

import shutil
import subprocess
import sys

from harness.loops import MOTET, STOCK
from harness.processes import last_line
from harness.settings import BENCHES


class SetupFailed(Exception):
    """Something that the run needs cannot be had; the text says what, and what to do."""


def install_rivals(loops: tuple[str, ...]) -> None:
    """Install the pinned rivals into this interpreter's virtual environment, if any of them is wanted."""
    if not set(loops) - {STOCK, MOTET}:
        return
    remedy = f"or run without them: --loops {STOCK},{MOTET}"
    if sys.prefix == sys.base_prefix:
        raise SetupFailed(
            f"the rivals are installed into virtual environments only; run 'make bench', {remedy}"
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--requirement", str(BENCHES / "requirements.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = last_line(done.stderr).removeprefix("ERROR: ")
        raise SetupFailed(f"cannot install benches/requirements.txt: {reason}; check the network, {remedy}")


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
