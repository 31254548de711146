"""The child processes of a measurement: an echo server, and the load client that drives it."""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

from harness.rows import FLOOR
from harness.settings import BENCHES, Settings

FLOOR_PROGRAM = BENCHES / "floor" / "target" / "release" / "floor"
START_LIMIT = 20.0
END_LIMIT = 1.0
GRACE = 30.0


class MeasurementFailed(Exception):
    """A server or client did not do its work; the text says how."""


def last_line(text: str) -> str:
    """Return the line of an error output that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no error was printed"


class EchoServer:
    """An echo server in a child process, on its own processor, for the time of a `with` block."""

    def __init__(
        self,
        loop: str,
        style: str,
        settings: Settings,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        program: Sequence[str | Path] = (
            sys.executable,
            BENCHES / "servers.py",
            "--loop",
            loop,
            "--style",
            style,
        )
        if loop == FLOOR:
            program = (FLOOR_PROGRAM, "serve")
        self._name = f"the {loop} server"
        self._command = (*program, "--cpu", str(settings.server_cpu))
        self._environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> "EchoServer":
        self._files = contextlib.ExitStack()
        self._errors = self._files.enter_context(tempfile.TemporaryFile())
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._errors, env=self._environment
        )
        assert self._process.stdout is not None
        self._output = self._files.enter_context(self._process.stdout)
        self.pid = self._process.pid
        try:
            self.port = self._read_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, MeasurementFailed) and (status := self._own_end()) is not None:
                raise MeasurementFailed(f"{self._ended(status)}; {error}") from error
        finally:
            self._end()

    def _own_end(self) -> int | None:
        """Return the status of a server that ended by itself; its client may notice before its parent can."""
        try:
            return self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            return None

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._files.close()

    def _read_port(self) -> int:
        ready, _, _ = select.select([self._output], [], [], START_LIMIT)
        line = self._output.readline() if ready else b""
        if line:
            return int(line)
        if not ready:
            raise MeasurementFailed(f"{self._name} did not start within {START_LIMIT:.0f} seconds")
        raise MeasurementFailed(self._ended(self._process.wait()))

    def _ended(self, status: int) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{self._name} {how}: {last_line(text)}"


def run_client(
    server: EchoServer, connections: int, size: int, settings: Settings, *, lines: bool = False
) -> dict[str, float]:
    """Drive a server with the load client and return what it reports."""
    load = {
        "--port": server.port,
        "--connections": connections,
        "--size": size,
        "--seconds": settings.seconds,
        "--warm-up": settings.warm_up,
        "--cpu": settings.client_cpu,
        "--server-pid": server.pid,
        "--lines": str(lines).lower(),
    }
    command = [str(FLOOR_PROGRAM), "client", *(str(word) for option in load.items() for word in option)]
    return cast(dict[str, float], run_json(command, settings.seconds + settings.warm_up + GRACE))


def run_json(command: Sequence[str], limit: float) -> object:
    """Run a program that prints one JSON value, for at most `limit` seconds."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, cwd=BENCHES, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"it did not end within {limit:.0f} seconds") from None
    if done.returncode < 0:
        raise MeasurementFailed(f"it was ended by signal {-done.returncode}: {last_line(done.stderr)}")
    if done.returncode:
        raise MeasurementFailed(last_line(done.stderr))
    return json.loads(done.stdout)
