"""The lists are strict: what is listed must fail, and for the reason that is listed."""

import unittest
from pathlib import Path
from types import ModuleType

import pytest
from conformance_harness.expectations import EXPECTED_FAILURE, WAITING, Entry
from conformance_harness.loops import CountingFactory, factory_of
from conformance_harness.readme import read_section, write_section
from conformance_harness.replacements import Replacement, replace_classes
from conformance_harness.supervisor import Outcome
from conformance_harness.verdicts import judge

ENTRY = Entry(WAITING, "cpython", "no TLS yet", ("test_ssl.*",), error="NotImplementedError")


@pytest.mark.parametrize(
    ("outcome", "entry", "status"),
    [
        (Outcome("test_x.A.test", "passed"), None, "passed"),
        (Outcome("test_x.A.test", "skipped", "no reason"), ENTRY, "skipped"),
        (Outcome("test_ssl.A.test", "failed", "NotImplementedError: start_tls"), ENTRY, WAITING),
        (
            Outcome("test_ssl.A.test", "failed", "ValueError"),
            Entry(EXPECTED_FAILURE, "", "", ()),
            EXPECTED_FAILURE,
        ),
    ],
)
def test_known_results_are_no_problem(outcome: Outcome, entry: Entry | None, status: str) -> None:
    verdict = judge(outcome, entry)
    assert (verdict.status, verdict.problem) == (status, "")


@pytest.mark.parametrize(
    ("outcome", "entry", "message"),
    [
        (Outcome("test_x.A.test", "failed", "ValueError: 3"), None, "ValueError: 3"),
        (Outcome("test_ssl.A.test", "passed"), ENTRY, "passed, but is listed as waiting: no TLS yet"),
        (Outcome("test_ssl.A.test", "failed", "ValueError: 3"), ENTRY, "failed for another reason"),
        (Outcome("test_ssl.A.test", "lost", "hung:\nNotImplementedError"), ENTRY, "hung"),
    ],
)
def test_other_results_are_problems(outcome: Outcome, entry: Entry | None, message: str) -> None:
    verdict = judge(outcome, entry)
    assert verdict.status == "failed"
    assert message in verdict.brief_problem()


def test_classes_that_name_a_loop_are_replaced() -> None:
    class Mixin:
        def create_event_loop(self) -> object:
            raise NotImplementedError

    first = type("FirstTests", (Mixin, unittest.TestCase), {"create_event_loop": lambda self: "first"})
    second = type("SecondTests", (Mixin, unittest.TestCase), {"create_event_loop": lambda self: "second"})
    module = ModuleType("sample")
    vars(module).update(FirstTests=first, SecondTests=second, Mixin=Mixin)
    factory = CountingFactory(factory_of("asyncio"))
    replace_classes(module, Replacement("SecondTests", "create_event_loop", "LoopTests"), factory)
    assert {name for name in vars(module) if not name.startswith("__")} == {"Mixin", "LoopTests"}
    loop = vars(module)["LoopTests"]().create_event_loop()
    loop.close()
    assert factory.created == 1


def test_a_section_of_the_readme_is_replaced(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    start, end = "<!-- lists: written by run.py --write-summary -->", "<!-- end of lists -->"
    readme.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    write_section("lists", "new", readme)
    assert readme.read_text() == f"before\n{start}\nnew\n{end}\nafter\n"
    assert read_section("lists", readme) == "new"
