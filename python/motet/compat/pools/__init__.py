"""motet's workers in the place of Python's own pools: of `concurrent.futures` and of `multiprocessing`.

`motet run --pools` calls `install()`; a program may do so itself, before it imports what has pools. The
classes can also be used by name, as those of Python can.
"""

from __future__ import annotations

from motet import _exit

from ._places import install

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

__all__ = ["Pool", "ProcessPoolExecutor", "ThreadPool", "ThreadPoolExecutor", "install"]

if TYPE_CHECKING:
    from ._pool import Pool
    from ._process_executor import ProcessPoolExecutor
    from ._thread_executor import ThreadPoolExecutor
    from ._thread_pool import ThreadPool
else:
    _HOMES = {
        "Pool": "_pool",
        "ProcessPoolExecutor": "_process_executor",
        "ThreadPool": "_thread_pool",
        "ThreadPoolExecutor": "_thread_executor",
    }

    def __getattr__(name: str) -> object:
        return _exit.load_attribute(__name__, _HOMES, name)
