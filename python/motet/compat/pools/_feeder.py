"""The thread that takes items for `imap` as fast as they come, as multiprocessing's does."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motet._executor.chunks import Call
    from motet._executor.executor import Executor

    from ._results import IMapIterator


class Feeder:
    """Submits calls that an iterator makes up, one iterator after the other. Thread-safe."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._wanted: queue.SimpleQueue[tuple[IMapIterator, Iterator[Call]] | None] = queue.SimpleQueue()
        self._stopped = False
        # As a daemon: an iterator may take for ever.
        self._thread = threading.Thread(target=self._run, name="motet.compat.pools, items", daemon=True)
        self._thread.start()

    def feed(self, results: IMapIterator, calls: Iterator[Call]) -> None:
        """Have these calls submitted, and tell `results` of them."""
        self._wanted.put((results, calls))

    def close(self) -> None:
        """No more come: what has come is submitted, and then the executor shut down."""
        self._wanted.put(None)

    def stop(self) -> None:
        """Submit no more; does not wait for an iterator that takes its time."""
        self._stopped = True
        self.close()

    def join(self) -> None:
        """Wait until all is submitted, after `close`."""
        self._thread.join()

    def _run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            results, calls = wanted
            results._end(self._submit(results, calls))
            # Nothing is kept while this waits.
            del wanted, results, calls
        self._executor.shutdown(wait=False)

    def _submit(self, results: IMapIterator, calls: Iterator[Call]) -> BaseException | None:
        """Returns what the items have ended with."""
        try:
            while not self._stopped:
                call = next(calls, None)
                if call is None:
                    return None
                function, arguments = call
                results._add(self._executor.submit(function, *arguments))
        except BaseException as error:
            if not self._stopped:
                return error
        return CancelledError("the pool was terminated")
