"""What the figures belong to: the machine, the interpreter and the version of every loop."""

import importlib.metadata
import os
import platform
import shlex
import ssl
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.processes import MeasurementFailed, run_json

PROBE_LIMIT = 30.0
WEB_PACKAGES = ("aiohttp", "uvicorn", "httptools")


@dataclass(frozen=True)
class Contender:
    """A loop or a pool as it was found: its version, or why it cannot take part."""

    name: str
    version: str | None
    gil: bool
    reason: str | None

    def __str__(self) -> str:
        if self.version is None:
            return f"not available: {self.reason}"
        return self.version if self.gil else f"{self.version} (without the GIL)"


def find(name: str, program: str = "harness.loops") -> Contender:
    """Ask in a child process, which runs the module `program`, for what is installed of a contender."""
    try:
        answer = run_json([sys.executable, "-m", program, name], PROBE_LIMIT)
    except MeasurementFailed as failure:
        return Contender(name, None, True, str(failure))
    found = cast(dict[str, object], answer)
    return Contender(name, str(found["version"]), bool(found["gil"]), None)


def describe() -> dict[str, str]:
    """Describe what servers run on, in the order in which it is printed."""
    return {
        **describe_machine(),
        "OpenSSL": ssl.OPENSSL_VERSION,
        "web servers": ", ".join(_version(name) for name in WEB_PACKAGES),
    }


def describe_machine() -> dict[str, str]:
    """Describe the machine and the interpreter."""
    usable = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "processor": f"{_processor()}, {usable} of {os.cpu_count()} cores usable",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load at the start": f"{load:.2f} (anything else that runs makes the figures worse)",
        "Python": f"{python}, {platform.python_compiler()}",
        "Python's build flags": _build_flags(),
    }


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _build_flags() -> str:
    """Return the switches of Python's configure script that carry no path, and what they amount to."""
    arguments = shlex.split(str(sysconfig.get_config_var("CONFIG_ARGS") or ""))
    switches = [word for word in arguments if word.startswith("--") and "/" not in word]
    optimised = "--enable-optimizations" in switches
    return (
        f"{' '.join(switches) or 'none'} ({'with' if optimised else 'without'} profile-guided optimisation)"
    )
