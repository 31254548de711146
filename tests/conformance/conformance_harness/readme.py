"""The generated parts of the README: text between markers, and the table of results."""

import platform
import sysconfig
from pathlib import Path

from .paths import CONFORMANCE

README = CONFORMANCE / "README.md"


def python_name() -> str:
    """The running Python, such as `3.13.0` or `3.14.7t`."""
    return platform.python_version() + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else "")


def read_section(name: str, readme: Path = README) -> str:
    """The text between a section's markers."""
    text = readme.read_text()
    first, last = _bounds(text, name)
    return text[first:last].strip()


def write_section(name: str, content: str, readme: Path = README) -> None:
    """Replace the text between a section's markers."""
    text = readme.read_text()
    first, last = _bounds(text, name)
    readme.write_text(f"{text[:first]}\n{content}\n{text[last:]}")


def read_results(readme: Path = README) -> dict[tuple[str, str], list[str]]:
    """The table's rows by suite and Python."""
    lines = [line for line in read_section("results", readme).splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(row[0], row[1]): row for row in rows}


def knows_this_python(suite_title: str) -> bool:
    """Whether the lists were made with exactly this Python: another patch release has other tests."""
    return (suite_title, python_name()) in read_results()


def _bounds(text: str, name: str) -> tuple[int, int]:
    start, end = f"<!-- {name}: written by run.py --write-summary -->", f"<!-- end of {name} -->"
    if start not in text or end not in text:
        raise ValueError(f"README.md has no section '{name}': it needs the lines '{start}' and '{end}'")
    return text.index(start) + len(start), text.index(end)
