"""Runs one module in child processes: a test that hangs or crashes is recorded, the others run without it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .paths import CONFORMANCE, ensure_cache
from .suites import Suite

# Hangs and crashes after which a module is given up.
LOSSES_LIMIT = 5
MODULE_TIMEOUT = 600.0
LOG_TAIL = 3_000


@dataclass(frozen=True)
class Outcome:
    """What became of one test: `passed`, `failed`, `skipped`, `left out`, or `lost` to a hang or a crash."""

    test: str
    outcome: str
    detail: str = ""
    made_loop: bool = False


@dataclass
class ModuleRun:
    """What became of a module's tests; `complete` is false when it was given up."""

    suite: Suite
    module: str
    outcomes: list[Outcome] = field(default_factory=list)
    complete: bool = False


@dataclass(frozen=True)
class _Child:
    """What one child process left behind."""

    outcomes: list[Outcome]
    in_flight: str | None
    complete: bool
    end: str


def run_module(suite: Suite, module: str, loop: str, leave_out: list[str], timeout: float) -> ModuleRun:
    """Run the module's tests except those that match a pattern of `leave_out`."""
    run = ModuleRun(suite, module)
    log = ensure_cache() / f"{sys.implementation.cache_tag}-{loop}-{suite.name}-{module}.log"
    log.unlink(missing_ok=True)
    losses = 0
    while not run.complete and losses < LOSSES_LIMIT:
        request = {
            "suite": suite.name,
            "module": module,
            "loop": loop,
            "leave_out": leave_out,
            "done": [outcome.test for outcome in run.outcomes],
            "timeout": timeout,
        }
        child = _run_child(request, log)
        run.outcomes += child.outcomes
        run.complete = child.complete
        if not child.complete:
            losses += 1
            run.outcomes.append(Outcome(child.in_flight or module, "lost", child.end))
            if child.in_flight is None:
                break
    return run


def _run_child(request: dict[str, Any], log: Path) -> _Child:
    with tempfile.TemporaryDirectory(prefix="motet-conformance-") as name:
        folder = Path(name)
        work = folder / "work"
        work.mkdir()
        lines, hang = folder / "lines", folder / "hang"
        lines.touch()
        hang.touch()
        request_file = folder / "request"
        request_file.write_text(json.dumps({**request, "lines": str(lines), "hang": str(hang)}))
        status = _wait(request_file, work, log)
        outcomes, in_flight, complete = _read(lines)
        return _Child(outcomes, in_flight, complete, _describe_end(status, hang.read_text(), log))


def _wait(request_file: Path, work: Path, log: Path) -> int | None:
    """The child's exit status, or None when it was killed for taking too long."""
    search_path = os.pathsep.join(filter(None, [str(CONFORMANCE), os.environ.get("PYTHONPATH")]))
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "conformance_harness.child", str(request_file)],
            cwd=work,
            env={**os.environ, "PYTHONPATH": search_path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return child.wait(MODULE_TIMEOUT)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill_group(child)


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End what the child started and left running, and the child itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read(lines: Path) -> tuple[list[Outcome], str | None, bool]:
    outcomes: list[Outcome] = []
    in_flight: str | None = None
    complete = False
    for line in lines.read_text().splitlines():
        event = json.loads(line)
        kind = event.pop("event")
        if kind == "start":
            in_flight = event["test"]
        elif kind == "end":
            in_flight = None
            outcomes.append(Outcome(**event))
        elif kind == "left out":
            outcomes.append(Outcome(event["test"], "left out"))
        elif kind == "complete":
            complete = True
    return outcomes, in_flight, complete


def _describe_end(status: int | None, hang: str, log: Path) -> str:
    tail = log.read_text(errors="replace")[-LOG_TAIL:]
    if hang:
        return f"hung:\n{hang}"
    if status is None:
        return f"the module took longer than {MODULE_TIMEOUT:.0f} s"
    if status < 0:
        return f"the process was ended by {signal.Signals(-status).name}; its output ended with:\n{tail}"
    return f"the process exited with {status}; its output ended with:\n{tail}"
