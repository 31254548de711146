"""What type checkers say about programs that use motet, as mypy in strict mode sees it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="requirements-dev.txt is not installed")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mypy keeps what it knows between the runs of this module."""
    return tmp_path_factory.mktemp("mypy")


def check(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of mypy's on this Python, with the project's configuration."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={"MYPY_CACHE_DIR": str(cache), "MYPYPATH": "python"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("version", ["3.11", "3.14"])
def test_mypy_agrees(version: str, cache: Path) -> None:
    # Strict mode reports an ignored error that is not there, so the mistakes in refused.py are checked too.
    programs = [str(HERE / "accepted.py"), str(HERE / "refused.py")]
    result = check("mypy", "--strict", "--python-version", version, *programs, cache=cache)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "no issues found in 2 source files" in result.stdout


def test_a_wrong_expectation_is_found(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(
        "from typing import assert_type\nimport motet\nassert_type(motet.new_event_loop(), int)\n"
    )
    result = check("mypy", "--strict", str(program), cache=cache)
    assert result.returncode == 1
    assert "[assert-type]" in result.stdout


def test_the_stub_describes_the_compiled_module(cache: Path) -> None:
    allowlist = str(HERE / "stubtest-allowlist.txt")
    result = check("mypy.stubtest", "motet", "--allowlist", allowlist, cache=cache)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "no issues found" in result.stdout
