"""Real servers for the smokes: each started for this run in a temporary folder, and stopped afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import tls_contexts

# A server that has not begun to answer by then has failed; it takes a second or two.
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server with a user `motet` and no passwords; it speaks TLS to those who ask."""

    folder: Path
    port: int


@dataclass(frozen=True)
class Redis:
    """A Redis server with a Unix socket, a port, and a port for TLS."""

    path: Path
    port: int
    tls_port: int


def find_program(name: str, package: str, *folders: Path) -> Path:
    """Where a program is; the test is skipped where it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"there is no {name} here (Debian package {package})")
    return Path(found)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def temporary_folder(user: str | None) -> Iterator[Path]:
    """A new folder with a path short enough for Unix sockets, and the run's certificates in it."""
    with tempfile.TemporaryDirectory(prefix="motet-", dir="/tmp") as name:
        folder = Path(name)
        files = tls_contexts.write_files(folder)
        for path in files:
            # PostgreSQL wants its key so.
            path.chmod(0o600)
        if user is not None:
            for path in (folder, *files):
                shutil.chown(path, user)
        yield folder


def wait_for_socket(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until the server listens at a Unix socket."""
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    pytest.fail(f"{process.args} does not answer (exit status {process.poll()}):\n{log.read_text()}")


@contextmanager
def running(command: list[object], folder: Path, path: Path, user: str | None) -> Iterator[None]:
    """A server in the foreground, from when it listens at `path` on."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_socket(path, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_START)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def unprivileged_user() -> str | None:
    """Whom PostgreSQL runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that forgets everything in the end."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    # PATH may have a link to it; the server lies beside the program itself.
    make = find_program("initdb", "postgresql", *versions).resolve()
    user = unprivileged_user()
    with temporary_folder(user) as folder:
        data, port = folder / "data", free_port()
        made = subprocess.run(
            [make, "-D", data, "-U", "motet", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            user=user,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": folder / "certificate.pem",
            "ssl_key_file": folder / "key.pem",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [make.with_name("postgres"), "-D", data, *options]
        with running(command, folder, folder / f".s.PGSQL.{port}", user):
            yield Postgres(folder, port)


@contextmanager
def start_redis() -> Iterator[Redis]:
    """A Redis server that keeps nothing."""
    program = find_program("redis-server", "redis-server")
    with temporary_folder(None) as folder:
        path, port, tls_port = folder / "socket", free_port(), free_port()
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "unixsocket": path,
            "save": "",
            "dir": folder,
            "tls-port": tls_port,
            "tls-cert-file": folder / "certificate.pem",
            "tls-key-file": folder / "key.pem",
            "tls-ca-cert-file": folder / "authority.pem",
            "tls-auth-clients": "no",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with running([program, *options], folder, path, None):
            yield Redis(path, port, tls_port)
