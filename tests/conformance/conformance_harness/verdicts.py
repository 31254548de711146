"""Compares what became of a module's tests with what was known beforehand."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from .expectations import EXCLUDED, Entry, entries_for, module_of
from .readme import knows_this_python
from .suites import Suite
from .supervisor import ModuleRun, Outcome, run_module


@dataclass(frozen=True)
class Verdict:
    """One test's standing, and the entry that it stands on, if any."""

    outcome: Outcome
    status: str
    entry: Entry | None = None
    problem: str = ""

    def brief_problem(self) -> str:
        """One line that says what is wrong: the exception, or where a test hung."""
        lines = self.problem.strip().splitlines()
        if self.outcome.outcome == "lost":
            return f"{lines[0]} {next((line.strip() for line in lines if '/test' in line), '')}"
        # The last line that names an exception; a long message goes on below it.
        named = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(:|$)", line)]
        return (named or lines or ["no message"])[-1]


@dataclass
class Report:
    """A module's verdicts, and what is wrong with the entries themselves."""

    suite: Suite
    module: str
    verdicts: list[Verdict]
    stale: list[str] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How many tests stand where."""
        return Counter(verdict.status for verdict in self.verdicts)

    def problems(self) -> list[Verdict]:
        """The tests that did not do what was known beforehand."""
        return [verdict for verdict in self.verdicts if verdict.problem]

    def grouped_problems(self) -> dict[str, list[Verdict]]:
        """The same, those with the same brief problem together."""
        groups: defaultdict[str, list[Verdict]] = defaultdict(list)
        for verdict in self.problems():
            groups[verdict.brief_problem()].append(verdict)
        return groups

    def is_clean(self) -> bool:
        """Whether everything is as known beforehand."""
        return not self.problems() and not self.stale


def check_module(suite: Suite, module: str, loop: str, timeout: float, run_tests: bool = True) -> Report:
    """Run a module (or, without `run_tests`, list its tests) and judge it."""
    entries = [entry for entry in entries_for(suite.name, loop) if _concerns(entry, module)]
    left_out = [pattern for entry in entries if not _is_run(entry) for pattern in entry.tests]
    run = run_module(suite, module, loop, left_out if run_tests else ["*"], timeout)
    verdicts = [judge(outcome, _entry_for(entries, outcome.test)) for outcome in run.outcomes]
    return Report(suite, module, verdicts, _stale_patterns(entries, run))


def _concerns(entry: Entry, module: str) -> bool:
    return any(module_of(pattern) == module for pattern in entry.tests)


def _is_run(entry: Entry) -> bool:
    return entry.run and entry.kind != EXCLUDED


def _entry_for(entries: list[Entry], test: str) -> Entry | None:
    return next((entry for entry in entries if entry.pattern_for(test)), None)


def judge(outcome: Outcome, entry: Entry | None) -> Verdict:
    """Hold an outcome against the entry that lists its test, if one does."""
    if outcome.outcome == "left out":
        return Verdict(outcome, entry.kind if entry else "not run", entry)
    if outcome.outcome == "skipped":
        return Verdict(outcome, "skipped", entry)
    if outcome.outcome == "lost":
        # Never accepted, whatever is listed: it costs the module a process and the time limit.
        return Verdict(outcome, "failed", entry, outcome.detail)
    if entry is None:
        problem = outcome.detail if outcome.outcome == "failed" else ""
        return Verdict(outcome, outcome.outcome, None, problem)
    if outcome.outcome == "passed":
        return Verdict(outcome, "failed", entry, f"passed, but is listed as {entry.kind}: {entry.reason}")
    if entry.error not in outcome.detail:
        problem = f"{outcome.detail}\nunexpected: failed for another reason than {entry.error!r}"
        return Verdict(outcome, "failed", entry, problem)
    return Verdict(outcome, entry.kind, entry)


def _stale_patterns(entries: list[Entry], run: ModuleRun) -> list[str]:
    """Patterns that match no test of the module, where all of its tests are known."""
    imported = run.complete and all(outcome.test != run.module for outcome in run.outcomes)
    if not imported or not knows_this_python(run.suite.title):
        return []
    tests = [outcome.test for outcome in run.outcomes]
    used = {(entry, entry.pattern_for(test)) for test in tests for entry in entries}
    return [
        pattern
        for entry in entries
        for pattern in entry.tests
        if module_of(pattern) == run.module and (entry, pattern) not in used
    ]
