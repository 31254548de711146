"""What the program prints at its end: counts, times, problems, and the ranked hits."""

from store import Store
from tally import Tally

SHOWN_HITS = 15
SHOWN_PROBLEMS = 5
LINE_WIDTH = 120
STAGES = {
    "crawl": "server and client, and the hand-over to the other stages",
    "parse": "in the worker processes",
    "index": "in a thread",
}


def print_summary(tally: Tally, *, crawl_only: bool) -> None:
    """Counts and the times of each stage."""
    print(f"files        {tally.fetched:>12,}")
    print(f"bytes        {tally.bytes:>12,}")
    if not crawl_only:
        print(f"definitions  {tally.definitions:>12,}")
    print(f"problems     {len(tally.problems):>12,}")
    print()
    print("stage  ended after, s  processor, s")
    for stage in ["crawl"] if crawl_only else STAGES:
        ended_after, processor = tally.ended_after.get(stage, 0.0), tally.processor.get(stage, 0.0)
        print(f"{stage}  {ended_after:14.3f}  {processor:12.3f}  {STAGES[stage]}")
    if tally.problems:
        print()
        for path, reason in sorted(tally.problems)[:SHOWN_PROBLEMS]:
            print(shorten(f"problem: {path}: {reason}"))
        if len(tally.problems) > SHOWN_PROBLEMS:
            print(f"and {len(tally.problems) - SHOWN_PROBLEMS} more problems")


def print_hits(store: Store, word: str) -> None:
    """The best definitions for `word`, with file and line."""
    hits = store.search(word)
    print()
    print(f"{len(hits):,} definitions match {word!r}")
    shown = hits[:SHOWN_HITS]
    places = [f"{hit.path}:{hit.line}" for hit in shown]
    place_width = max(map(len, places), default=0)
    name_width = max((len(hit.name) for hit in shown), default=0)
    for number, (hit, place) in enumerate(zip(shown, places, strict=True), 1):
        first_line = hit.docstring.partition("\n")[0]
        line = f"{number:3}  {place:{place_width}}  {hit.kind:9}  {hit.name:{name_width}}  {first_line}"
        print(shorten(line.rstrip()))
    if len(hits) > len(shown):
        print(f"and {len(hits) - len(shown):,} more")


def shorten(line: str) -> str:
    return line if len(line) <= LINE_WIDTH else line[: LINE_WIDTH - 3] + "..."
