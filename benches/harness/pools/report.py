"""The printed result of a run over pools: a table of each section, its bars, and what failed."""

from collections.abc import Mapping

from harness import bars
from harness.machine import Contender
from harness.pools import rows
from harness.pools.bars import BARS
from harness.pools.contenders import POOLS
from harness.records import Results
from harness.report import cell, judgement, missing_notes
from harness.tables import table

METHOD = f"""\
Every pool has {rows.WORKERS} workers. Each measurement has a process of its own, with a pool of its own; the
rounds of all pools are interleaved in one run, and only ratios within one run mean anything. Figures are
medians of the rounds. Results are compared with what they must be. A star marks a figure of which some
rounds failed, a dash what is not available or not measured."""
TITLES = {
    rows.CALLS: (
        "Calls",
        "No-op calls are all submitted, each by itself, before the first result is waited for; every pool "
        "gets as many as keep it busy for the length of a measurement, 100,000 at most. joblib has no "
        "`submit`: it batches as it sees fit. The round trip is the median of one call after the other.",
    ),
    rows.MAP: ("Map", "`abs` of the numbers up to a million, in chunks that the library chooses by itself."),
    rows.ARRAYS: (
        "Arrays",
        "One call with a NumPy array of 100 MB that no call had before, of which the worker reads the first "
        "and the last value; one call that returns an array of 100 MB, which the worker has already. *Born "
        "shared*: made by `motet.empty`.",
    ),
    rows.START: (
        "Start",
        "From the making of a pool to the result of its first call, the library being imported; and the same "
        "once more, after the first pool was closed: then motet's zygote and `multiprocessing`'s fork server "
        "are warm.",
    ),
    rows.RECOVERY: (
        "Recovery",
        "One of two workers is killed by SIGKILL while calls that sleep for 1 ms are queued. Full speed is "
        "back with the first call to end after the kill from which on 20 ms have at least 90 % as many ends "
        "of calls per millisecond as the half second before the kill had. Calls that raise do not "
        "count, nor does that `multiprocessing.Pool` never ends the call that was lost.",
    ),
    rows.QUEUED: (
        "Queued calls",
        "Growth of the parent's resident memory by a million no-op calls that are submitted while the "
        "workers are held up by a call that blocks.",
    ),
    rows.CPU: (
        "Work",
        "Calls of 1 ms of plain Python, each submitted by itself, beside the same work done in one thread, "
        "by turns. *Bare processes* take the calls by a counter that they share and return nothing: what the "
        "machine gives. Their pace is the measure of the second column, also by turns.",
    ),
}


def report(
    run: Mapping[str, str], contenders: list[Contender], sections: tuple[str, ...], results: Results
) -> str:
    """Write the whole report in Markdown."""
    outcomes = [verdict.outcome for section in sections for verdict in bars.judge(results, section, BARS)]
    met, missed = outcomes.count("met"), outcomes.count("missed")
    parts = ["# Worker pools", METHOD]
    parts.append(f"Bars: {met} met, {missed} missed, {len(outcomes) - met - missed} without a figure.")
    parts.append(table(("this run", ""), list(run.items()), text_columns=2))
    parts.append(table(("pool", "version"), [(one.name, str(one)) for one in contenders], text_columns=2))
    for section in sections:
        parts += _section(section, results)
    return "\n\n".join(parts) + "\n"


def _section(section: str, results: Results) -> list[str]:
    title, text = TITLES[section]
    parts = [f"## {title}", text]
    known = [row for row in rows.ROWS if row.section == section and row.name in results.rows(section)]
    if not known:
        return [*parts, "Not measured: no pool that it is about is available."]
    pools = sorted(results.loops(section), key=POOLS.index)
    lines = [
        (pool, *(cell(results, section, row.name, pool, row.quantity) for row in known)) for pool in pools
    ]
    parts.append(table(("", *(row.name for row in known)), lines))
    judged = [(one.bar.row, *judgement(one)) for one in bars.judge(results, section, BARS)]
    if judged:
        parts.append(table(("", "ratio or figure", "to reach", "outcome"), judged))
    notes = missing_notes(section, results)
    notes += [
        f"- failed: {one.row}, {one.loop}, round {one.round + 1}: {one.failure}"
        for one in results.failures(section)
    ]
    return [*parts, "\n".join(notes)] if notes else parts
