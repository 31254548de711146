"""A pool of threads: hash the asyncio package. Reading and hashing let other threads run."""

import hashlib
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def hash_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    files = sorted(Path(sysconfig.get_path("stdlib"), "asyncio").glob("*.py"))
    together = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=4) as pool:
        # Results come in the order of the files, and the first exception of a worker is raised here.
        for file, digest in zip(files, pool.map(hash_file, files), strict=True):
            print(f"{digest[:16]}  {file.name}")
            together.update(digest.encode())
    print(f"{together.hexdigest()[:16]}  all {len(files)} files")


if __name__ == "__main__":
    main()
