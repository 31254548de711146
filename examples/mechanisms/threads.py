"""Threads that share a queue: count the lines of the json package's sources, several files at a time."""

import queue
import sysconfig
import threading
from pathlib import Path

WORKERS = 4


def count_lines(files: queue.SimpleQueue[Path | None], counts: dict[str, int], errors: list[OSError]) -> None:
    """Take files until None comes. A thread's exception would end the thread unseen, so it is kept."""
    while (file := files.get()) is not None:
        try:
            with file.open("rb") as lines:
                counts[file.name] = sum(1 for _ in lines)
        except OSError as error:
            errors.append(error)


def main() -> None:
    files: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    for file in Path(sysconfig.get_path("stdlib"), "json").glob("*.py"):
        files.put(file)
    counts: dict[str, int] = {}
    errors: list[OSError] = []
    threads = [threading.Thread(target=count_lines, args=(files, counts, errors)) for _ in range(WORKERS)]
    for thread in threads:
        files.put(None)
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ExceptionGroup("some files were not read", errors)
    for name in sorted(counts):
        print(f"{counts[name]:6}  {name}")
    print(f"{sum(counts.values()):6}  in {len(counts)} files")


if __name__ == "__main__":
    main()
