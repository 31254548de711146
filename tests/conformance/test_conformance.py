"""Other projects' asyncio tests on motet's loop: one test here for each of their modules.

`run.py` beside this file runs the same by hand, and prints more.
"""

from collections.abc import Mapping

import pytest
from conformance_harness import source_distributions
from conformance_harness.expectations import (
    all_entries,
    applies_to,
    entries_for,
    is_excluded_whole,
    module_of,
)
from conformance_harness.readme import knows_this_python, read_section
from conformance_harness.suites import CPYTHON, SUITES, UVLOOP, Suite
from conformance_harness.summary import render_lists
from conformance_harness.verdicts import check_module

LOOP = "motet"
TIMEOUT = 30.0

Reasons = Mapping[str, str | None]

MODULES = [
    pytest.param(suite, module, id=f"{suite.name}-{module}")
    for suite in SUITES.values()
    for module in suite.list_modules()
    if not is_excluded_whole(entries_for(suite.name, LOOP), module)
]


@pytest.fixture(scope="session")
def unavailable() -> Reasons:
    """Why each suite cannot run here, or None."""
    return {suite.name: suite.unavailable() for suite in SUITES.values()}


def skip_if(reason: str | None) -> None:
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_suite_is_available(suite: Suite, unavailable: Reasons) -> None:
    # A test of its own: without the suite there are no modules whose tests could show as skipped.
    skip_if(unavailable[suite.name])
    assert suite.list_modules()


@pytest.mark.parametrize(("suite", "module"), MODULES)
def test_module(suite: Suite, module: str, unavailable: Reasons) -> None:
    skip_if(unavailable[suite.name])
    report = check_module(suite, module, LOOP, TIMEOUT)
    problems = [f"{verdict.outcome.test}: {verdict.brief_problem()}" for verdict in report.problems()]
    problems += [f"{pattern}: the entry matches no test" for pattern in report.stale]
    assert not problems, "\n".join(problems)
    assert report.verdicts, f"{module} has no tests"


def test_uvloop_modules_are_those_of_its_source(unavailable: Reasons) -> None:
    skip_if(unavailable[UVLOOP.name])
    sources = (source_distributions.UVLOOP.ensure_tests() / "tests").glob("test_*.py")
    with_asyncio_classes = {path.stem for path in sources if "AIOTestCase)" in path.read_text()}
    assert with_asyncio_classes == set(UVLOOP.list_modules())


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_every_entry_names_a_module(suite: Suite, unavailable: Reasons) -> None:
    skip_if(unavailable[suite.name])
    if not knows_this_python(suite.title):
        pytest.skip("the lists were not made with this Python")
    named = {module_of(pattern) for entry in entries_for(suite.name, LOOP) for pattern in entry.tests}
    assert named <= set(suite.list_modules())


def test_every_entry_has_a_known_suite_and_a_reason() -> None:
    assert {entry.suite for entry in all_entries()} <= set(SUITES)
    assert all(entry.reason and entry.tests for entry in all_entries())


def test_readme_shows_the_lists() -> None:
    assert read_section("lists") == render_lists(), "run tests/conformance/run.py --write-summary"


@pytest.mark.parametrize(
    ("condition", "holds"),
    [("", True), (">=3.12", True), ("<3.13", False), (">=3.11,<3.14", True), ("<3.13.1", True)],
)
def test_python_condition(condition: str, holds: bool) -> None:
    assert applies_to(condition, (3, 13, 0)) is holds


def test_excluded_modules_are_not_run() -> None:
    modules = {parameter.values[1] for parameter in MODULES if parameter.values[0] is CPYTHON}
    assert "test_unix_events" not in modules
