"""The command line: what to search for, and where."""

import argparse
import sysconfig
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the user asked for, checked."""

    word: str
    root: Path
    limit: int | None
    connections: int
    progress: bool
    database: str
    crawl_only: bool
    pool: str


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def parse_arguments(command: list[str] | None = None) -> Arguments:
    """Read and check the command line; a mistake in it ends the program with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="code_search",
        description="Serve Python sources over HTTP, crawl, parse and index them, then search for a word.",
    )
    parser.add_argument("word", nargs="?", help="the word to search for (default: semaphore)")
    parser.add_argument("--word", dest="named_word", metavar="WORD", help="the same, as an option")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(sysconfig.get_path("stdlib")),
        metavar="DIR",
        help="the tree to serve (default: the standard library of this Python)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="crawl only the first N files")
    parser.add_argument(
        "--connections",
        type=positive,
        default=200,
        metavar="N",
        help="connections of the crawler (default: 200)",
    )
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument(
        "--database",
        default=":memory:",
        metavar="PATH",
        help="keep the index in a new file (default: in memory)",
    )
    parser.add_argument(
        "--crawl-only", action="store_true", help="fetch the files, but neither parse nor index them"
    )
    parser.add_argument(
        "--pool",
        choices=["motet", "futures"],
        default="motet",
        help="what parses: motet.amap (default), or concurrent.futures",
    )
    options = parser.parse_args(command)

    if options.word and options.named_word:
        parser.error(f"two words to search for, {options.word!r} and {options.named_word!r}: give one")
    word = options.word or options.named_word or "semaphore"
    if not any(character.isalnum() for character in word):
        parser.error(f"{word!r} has no letter or digit to search for")
    if not options.root.is_dir():
        parser.error(f"{options.root} is not a directory: name one with --root")
    if options.database != ":memory:" and Path(options.database).exists():
        parser.error(f"{options.database} exists already: remove it or name a new file")
    return Arguments(
        word=word,
        root=options.root.resolve(),
        limit=options.limit,
        connections=options.connections,
        progress=not options.no_progress,
        database=options.database,
        crawl_only=options.crawl_only,
        pool=options.pool,
    )
