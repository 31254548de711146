"""The printed result: for each section what was measured, what it had to reach, and which rounds failed."""

from collections.abc import Mapping

from harness import bars, rows
from harness.loops import MOTET
from harness.machine import Contender
from harness.records import Results
from harness.tables import number, table

ECHO_TEXT = "{} messages of 1 KiB in ping-pong; processor time of the server per request."
TITLES = {
    rows.MICRO: ("Microbenchmarks", "Nanoseconds per operation."),
    rows.PROTOCOL: ("Protocol echo", ECHO_TEXT.format("`create_server` with a protocol,")),
    rows.STREAMS: ("Streams echo", ECHO_TEXT.format("`asyncio.start_server` with the stock streams,")),
    rows.SOCK: ("Socket echo", ECHO_TEXT.format("`sock_recv` and `sock_sendall`,")),
    rows.THROUGHPUT: (
        "Throughput",
        f"MiB per second echoed by a protocol (one direction), {rows.THROUGHPUT_CONNECTIONS} connections.",
    ),
    rows.MEMORY: ("Idle connections", "KiB of the server's resident memory per connection."),
    rows.WATCHDOG: (
        "Watchdog",
        "Server µs per request, protocol echo, with motet's watchdog on (the default) and off; the ratio is "
        "the median of the rounds' own ratios, with its standard error.",
    ),
    rows.TLS: (
        "TLS echo",
        ECHO_TEXT.format(
            "`create_server` with a protocol and an `ssl.SSLContext`, TLS 1.3 with AES-256-GCM,"
        ),
    ),
    rows.TLS_THROUGHPUT: (
        "TLS throughput",
        f"MiB per second echoed through TLS (one direction), {rows.THROUGHPUT_CONNECTIONS} connections.",
    ),
    rows.TLS_MEMORY: (
        "Idle TLS connections",
        "KiB of the server's resident memory per connection that has carried some messages.",
    ),
    rows.HANDSHAKES: (
        "TLS handshakes",
        "Connect, a full handshake (ECDSA P-256, X25519), close; each counts as one request, done once the "
        "server has closed the connection too.",
    ),
    rows.NATIVE_STREAMS: (
        "Native streams echo",
        ECHO_TEXT.format("`motet.start_server`, and the stock streams on the other loops,"),
    ),
    rows.READLINE: (
        "Lines",
        "One line of 1 KiB in, one out, by `readline()`, over the same streams; the ratio is that of the "
        "requests per second of processor time.",
    ),
    rows.NATIVE_TASKS: (
        "Own task",
        "Nanoseconds per operation; motet with `motet.task_factory`, the other loops with the stock task.",
    ),
    rows.WEB: (
        "Web servers",
        f"Hello-world over {rows.MANY_CONNECTIONS} connections that are kept alive; processor time of the "
        "server per request; the ratio is that of the requests per second of processor time.",
    ),
    rows.START: ("Start", "Milliseconds from the start of a process to its end."),
    rows.DATAGRAMS: (
        "Datagrams",
        "`create_datagram_endpoint`, datagrams of 1 KiB; 64 clients with one under way each, and one client "
        "that sends 64 at a time; processor time of the server per datagram. No bar.",
    ),
    rows.THREADS: (
        "Loops in threads",
        "Messages of 1 KiB echoed per second on one loop and on two, each in a thread and on a processor of "
        "its own, with both ends of its connections.",
    ),
}
QUANTITIES = {
    rows.MICRO: rows.NANOSECONDS,
    rows.THROUGHPUT: rows.MIB_PER_SECOND,
    rows.MEMORY: rows.KIB_PER_CONNECTION,
    rows.WATCHDOG: rows.CPU,
    rows.TLS_THROUGHPUT: rows.MIB_PER_SECOND,
    rows.TLS_MEMORY: rows.KIB_PER_CONNECTION,
    rows.NATIVE_TASKS: rows.NANOSECONDS,
    rows.START: rows.MILLISECONDS,
    rows.THREADS: rows.REQUESTS_PER_SECOND,
}
ECHO_COLUMNS = {
    "user µs": rows.USER,
    "system µs": rows.SYSTEM,
    "together µs": rows.CPU,
    "requests/s": rows.REQUESTS_PER_SECOND,
    "p50 µs": rows.P50,
    "p99 µs": rows.P99,
}
WHAT = {rows.USER: ", user", rows.CPU: ", together", rows.REQUESTS_PER_SECOND: ", requests/s"}
# A client that is busier may be what limits a rate.
BUSY = 0.95
METHOD = """\
The rounds of all loops are interleaved in one run, each server and its client on cores of their own where
there are two; only ratios within one run mean anything. Figures are medians of the rounds. Processor time
is read by the client from the server's process clock around the measured interval; its split into user
and system, which the kernel samples at its timer tick, is taken from all rounds together. `floor` is a
bare Rust server over epoll: what the kernel alone costs. Every echoed byte is compared. A star marks a
figure of which some rounds failed, a dash what is not available."""


def report(
    run: Mapping[str, str], contenders: list[Contender], sections: tuple[str, ...], results: Results
) -> str:
    """Write the whole report in Markdown."""
    parts = ["# Benchmarks", METHOD, _summary(sections, results)]
    parts.append(table(("this run", ""), list(run.items()), text_columns=2))
    versions = [(found.name, str(found)) for found in contenders]
    parts.append(table(("loop", "version"), versions, text_columns=2))
    for section in sections:
        parts += _section(section, results)
    return "\n\n".join(parts) + "\n"


def _summary(sections: tuple[str, ...], results: Results) -> str:
    outcomes = [verdict.outcome for section in sections for verdict in bars.judge(results, section)]
    met, missed = outcomes.count("met"), outcomes.count("missed")
    return f"Bars: {met} met, {missed} missed, {len(outcomes) - met - missed} without a figure."


def _section(section: str, results: Results) -> list[str]:
    title, text = TITLES[section]
    parts = [f"## {title}", text]
    if not results.rows(section):
        return [*parts, "Not measured: no loop that it is about is available."]
    parts += _echo(section, results) if section in rows.ECHO_SECTIONS else [_matrix(section, results)]
    notes = missing_notes(section, results)
    notes += [
        f"- the client was busy for {busy:.0%} of the time: {row}, {loop}"
        for row in results.rows(section)
        for loop in results.loops(section)
        if section in rows.RATE_SECTIONS
        and (busy := results.figure(section, row, loop, rows.CLIENT_BUSY) or 0.0) > BUSY
    ]
    notes += [
        f"- failed: {one.row}, {one.loop}, round {one.round + 1}: {one.failure}"
        for one in results.failures(section)
    ]
    return [*parts, "\n".join(notes)] if notes else parts


def missing_notes(section: str, results: Results) -> list[str]:
    """One line per reason, with the rows that it is about if they are not all."""
    missing = results.missing(section)
    lines = []
    for reason in dict.fromkeys(missing.values()):
        about = [key for key, other in missing.items() if other == reason]
        affected = list(dict.fromkeys(row for row, _ in about))
        names = [*dict.fromkeys(loop for _, loop in about)]
        if affected != results.rows(section):
            names.append(f"at {', '.join(affected)}")
        lines.append(f"- not available: {', '.join(names)}: {reason}")
    return lines


def _matrix(section: str, results: Results) -> str:
    """One line per row, one column per loop, the row's bar at the end."""
    contenders = _ordered(results.loops(section))
    verdicts = {verdict.bar.row: verdict for verdict in bars.judge(results, section)}
    lines = []
    for row in results.rows(section):
        cells = [cell(results, section, row, loop, QUANTITIES[section]) for loop in contenders]
        judged = judgement(verdicts[row]) if row in verdicts else ("", "", "")
        lines.append((row, *cells, *judged))
    return table(("", *contenders, "ratio", "to reach", "outcome"), lines)


def _echo(section: str, results: Results) -> list[str]:
    """One line per row and loop, and the bars in a table of their own."""
    lines = [
        (row, loop, *(cell(results, section, row, loop, quantity) for quantity in ECHO_COLUMNS.values()))
        for row in results.rows(section)
        for loop in _ordered(results.loops(section))
    ]
    judged = [
        (f"{verdict.bar.row}{WHAT[verdict.bar.quantity]}", *judgement(verdict))
        for verdict in bars.judge(results, section)
    ]
    measured = table(("", "loop", *ECHO_COLUMNS), lines, text_columns=2)
    return [measured, table(("", "ratio", "to reach", "outcome"), judged)] if judged else [measured]


def judgement(verdict: bars.Verdict) -> tuple[str, str, str]:
    """Return the ratio, what it was to be, and the outcome, as they are printed."""
    bar = str(verdict.bar)
    if verdict.reference != verdict.bar.against:
        bar = bar.replace(verdict.bar.against, f"{verdict.bar.against} ({verdict.reference})")
    ratio = number(verdict.ratio)
    if verdict.ratio is not None and verdict.uncertainty is not None:
        ratio = f"{verdict.ratio:.3f} ± {verdict.uncertainty:.3f}"
    return ratio, bar, verdict.outcome


def cell(results: Results, section: str, row: str, loop: str, quantity: str) -> str:
    """Return a figure as it is printed."""
    figure = results.figure(section, row, loop, quantity)
    failed = any((one.row, one.loop) == (row, loop) for one in results.failures(section))
    if figure is None:
        return "failed" if failed else "-"
    return number(figure) + (" *" if failed else "")


def _ordered(loops: list[str]) -> list[str]:
    """Put motet last, next to the ratio; the others as they are."""
    return sorted(loops, key=lambda loop: loop == MOTET)
