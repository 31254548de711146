"""What is known beforehand about tests: three lists in `expectations/`, each entry with its reason.

- `excluded.toml`: tests of something other than the loop under test, never run;
- `expected_failures.toml`: differences that stay, each for a reason a user would accept;
- `waiting.toml`: tests of features that the loop does not have yet.

The last two are strict: a listed test that passes is an error, and so is an entry that matches no test.
"""

import operator
import re
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from .paths import CONFORMANCE

EXCLUDED, EXPECTED_FAILURE, WAITING = "excluded", "expected failure", "waiting"
LISTS = {EXCLUDED: "excluded.toml", EXPECTED_FAILURE: "expected_failures.toml", WAITING: "waiting.toml"}

_COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


class BadExpectation(Exception):
    """An entry of a list that cannot be understood."""


@dataclass(frozen=True)
class Entry:
    """Tests that share a reason.

    `error` must occur in the failure's text, so that a failure for another reason is not taken for this one.
    `run` is false for tests that would hang or harm others; these cannot be held to failing.
    """

    kind: str
    suite: str
    reason: str
    tests: tuple[str, ...]
    python: str = ""
    error: str = ""
    run: bool = True

    def pattern_for(self, test: str) -> str | None:
        """The first of the entry's patterns that the test's name matches."""
        return next((pattern for pattern in self.tests if fnmatchcase(test, pattern)), None)


@cache
def all_entries() -> tuple[Entry, ...]:
    """Every entry of the three lists."""
    entries: list[Entry] = []
    for kind, file in LISTS.items():
        content = tomllib.loads((CONFORMANCE / "expectations" / file).read_text())
        try:
            entries += [_entry(kind, suite, table) for suite, tables in content.items() for table in tables]
        except (KeyError, TypeError) as error:
            raise BadExpectation(f"{file}: an entry is not understood: {error}") from None
    return tuple(entries)


def _entry(kind: str, suite: str, table: dict[str, Any]) -> Entry:
    return Entry(kind, suite, **{**table, "tests": tuple(table["tests"])})


def entries_for(suite: str, loop: str) -> list[Entry]:
    """The entries that apply to this suite, this loop and this Python.

    Only exclusions concern every loop: the other lists say what motet does.
    """
    return [
        entry
        for entry in all_entries()
        if entry.suite == suite
        and (loop == "motet" or entry.kind == EXCLUDED)
        and applies_to(entry.python, sys.version_info[:3])
    ]


def applies_to(condition: str, version: tuple[int, ...]) -> bool:
    """Whether a condition such as `>=3.12,<3.14` holds for a version; the empty one always does."""
    for part in filter(None, condition.split(",")):
        match = re.fullmatch(r"\s*(<=|>=|==|<|>)\s*(\d+(?:\.\d+)*)\s*", part)
        if match is None:
            raise BadExpectation(f"'{condition}' is not a condition such as '>=3.12,<3.14'")
        wanted = tuple(map(int, match[2].split(".")))
        if not _COMPARISONS[match[1]](version[: len(wanted)], wanted):
            return False
    return True


def module_of(pattern: str) -> str:
    """The module whose tests a pattern can match."""
    return pattern.partition(".")[0]


def is_excluded_whole(entries: list[Entry], module: str) -> bool:
    """Whether the module is left out with all of its tests."""
    return any(entry.kind == EXCLUDED and f"{module}.*" in entry.tests for entry in entries)
