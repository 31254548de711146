"""A pool of processes: count the functions of the email package, a few files in flight at a time."""

import ast
import itertools
import multiprocessing
import sysconfig
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

WORKERS = 2


def count_functions(file: Path) -> tuple[str, int]:
    """The file's name, and how many functions and methods it defines."""
    tree = ast.parse(file.read_bytes())
    return file.name, sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def main() -> None:
    files = sorted(Path(sysconfig.get_path("stdlib"), "email").glob("*.py"))
    counts: dict[str, int] = {}
    # Spawned workers start clean. A forked one would keep copies of whatever locks other threads hold.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        remaining = iter(files)
        # The pool's own queue has no bound: whoever submits keeps the number down.
        running = {pool.submit(count_functions, file) for file in itertools.islice(remaining, 2 * WORKERS)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            counts.update(future.result() for future in done)
            running |= {pool.submit(count_functions, file) for file in itertools.islice(remaining, len(done))}
    for name in sorted(counts):
        print(f"{counts[name]:6}  {name}")
    print(f"{sum(counts.values()):6}  functions in {len(counts)} files")


if __name__ == "__main__":
    main()
