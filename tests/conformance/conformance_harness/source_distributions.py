"""Suites that come with a source distribution: taken at a pinned version, checked, kept in the cache."""

import hashlib
import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .paths import ensure_cache


class Unavailable(Exception):
    """The suite cannot run here; the message says why."""


@dataclass(frozen=True)
class SourceDistribution:
    """A project whose tests import the project's own package, and `requirements` beside it.

    `sha256` is that of its source archive.
    """

    name: str
    version: str
    sha256: str
    requirements: tuple[str, ...]

    def ensure_installed(self) -> None:
        """Install what is missing of the project and what its tests need."""
        wanted = {self.name: f"{self.name}=={self.version}", **{name: name for name in self.requirements}}
        missing = [requirement for name, requirement in wanted.items() if _installed_version(name) is None]
        if missing:
            _pip("install", *missing)
        installed = _installed_version(self.name)
        if installed != self.version:
            raise Unavailable(
                f"{self.name} {installed} is installed, and its tests are those of {self.version}"
            )

    def ensure_tests(self) -> Path:
        """The folder that holds the project's `tests` package."""
        home = ensure_cache() / f"{self.name}-{self.version}"
        if not home.is_dir():
            self._download(home)
        return home

    def _download(self, home: Path) -> None:
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            requirement = f"{self.name}=={self.version}"
            _pip("download", "--no-deps", "--no-binary", self.name, "--dest", folder, requirement)
            archive = next(Path(folder).glob(f"{self.name}-*.tar.gz"))
            found = hashlib.sha256(archive.read_bytes()).hexdigest()
            if found != self.sha256:
                raise Unavailable(f"{archive.name} has the SHA-256 {found}, and was to have {self.sha256}")
            unpacked = Path(folder) / "unpacked"
            _unpack_tests(archive, unpacked)
            try:
                unpacked.rename(home)
            except OSError:
                # Another run was faster.
                if not home.is_dir():
                    raise


UVLOOP = SourceDistribution(
    "uvloop",
    "0.23.0",
    "28d160f51ab4da3b187063652e643dea6831072add4adc1e6d62afbe73b6be27",
    ("aiohttp", "psutil", "pyOpenSSL"),
)
LOKY = SourceDistribution(
    "loky",
    "3.7.0",
    "80928106fe18b5300c6f1b3a871d71e68a81dc9b2fe5c8ee4afe93bb9ba6424d",
    ("packaging", "psutil", "pytest"),
)


def _unpack_tests(archive: Path, folder: Path) -> None:
    """Take only the tests: the source tree's own package would hide the installed one."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = tar.extractfile(member)
            if content is not None and path.parts[:1] == ("tests",) and ".." not in path.parts:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"'pip {' '.join(arguments)}' failed: {last}")
