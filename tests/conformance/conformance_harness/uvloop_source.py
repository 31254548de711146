"""uvloop's own tests: taken from its source distribution at a pinned version, kept in the cache."""

import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from .paths import ensure_cache

VERSION = "0.23.0"
# What its tests import beside uvloop itself.
REQUIREMENTS = ("aiohttp", "psutil", "pyOpenSSL")


class Unavailable(Exception):
    """The suite cannot run here; the message says why."""


def ensure_installed() -> None:
    """uvloop's tests import helpers from the uvloop package, and a few others: install what is missing."""
    wanted = {"uvloop": f"uvloop=={VERSION}", **{name: name for name in REQUIREMENTS}}
    missing = [requirement for name, requirement in wanted.items() if _installed_version(name) is None]
    if missing:
        _pip("install", *missing)
    installed = _installed_version("uvloop")
    if installed != VERSION:
        raise Unavailable(f"uvloop {installed} is installed, and its tests are those of {VERSION}")


def ensure_tests() -> Path:
    """The folder that holds uvloop's `tests` package."""
    home = ensure_cache() / f"uvloop-{VERSION}"
    if not home.is_dir():
        _download(home)
    return home


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _download(home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=home.parent) as folder:
        _pip("download", "--no-deps", "--no-binary", "uvloop", "--dest", folder, f"uvloop=={VERSION}")
        unpacked = Path(folder) / "unpacked"
        _unpack_tests(next(Path(folder).glob("uvloop-*.tar.gz")), unpacked)
        try:
            unpacked.rename(home)
        except OSError:
            # Another run was faster.
            if not home.is_dir():
                raise


def _unpack_tests(archive: Path, folder: Path) -> None:
    """Take only the tests: the source tree's own `uvloop` folder would hide the installed package."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = tar.extractfile(member)
            if content is not None and path.parts[:1] == ("tests",) and ".." not in path.parts:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"'pip {' '.join(arguments)}' failed: {last}")
