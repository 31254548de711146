"""Processes that each own a share of the work: count the words of the email package's sources."""

import multiprocessing
import re
import sysconfig
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

WORKERS = 2


def count_words(files: list[Path], results: Connection) -> None:
    """Count, send the result, and end."""
    words: Counter[str] = Counter()
    for file in files:
        words.update(re.findall(r"[a-z]{4,}", file.read_text(encoding="utf-8").lower()))
    results.send(words)


def main() -> None:
    # Spawned processes start clean. A forked one would keep copies of whatever locks other threads hold.
    context = multiprocessing.get_context("spawn")
    files = sorted(Path(sysconfig.get_path("stdlib"), "email").glob("*.py"))
    running = []
    for number in range(WORKERS):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=count_words, args=(files[number::WORKERS], sender))
        process.start()
        # With this end closed here, a process that dies ends the wait for its result with EOFError.
        sender.close()
        running.append((process, receiver))
    total: Counter[str] = Counter()
    for process, receiver in running:
        total.update(receiver.recv())
        process.join()
    for word, count in sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))[:10]:
        print(f"{count:6}  {word}")
    print(f"{total.total():6}  words in {len(files)} files")


if __name__ == "__main__":
    main()
