"""The future of a call that an executor runs.

The class puts the Rust part before Python's class of the same kind: `isinstance` holds, `wait()`,
`as_completed()` and `asyncio.wrap_future()` work as they are, and what is called for each future is compiled.
"""

import concurrent.futures
from collections.abc import Generator
from typing import Any, TypeVar

from .. import _motet
from . import awaiting

_T = TypeVar("_T")


class CallFuture(_motet.CallFutureCore[_T], concurrent.futures.Future[_T]):
    """What a call will return or raise: a `concurrent.futures.Future` that asyncio and trio can await.

    `cancel(kill=True)` also stops a call that has begun, if its executor can: then it returns True, and the
    future is cancelled as soon as the call was stopped. All methods may be called by any thread.
    """

    def __await__(self) -> Generator[Any, Any, _T]:
        """Waits without blocking the event loop; returns or raises what `result()` does.

        When the task that waits is cancelled, the call is too, as by `cancel(kill=True)`. A call that
        somebody else has cancelled raises `concurrent.futures.CancelledError`: it is not the task that was
        cancelled. Raises RuntimeError outside of asyncio and trio.
        """
        try:
            if not self.done():
                yield from awaiting.wait(self)
            return self.result()
        finally:
            # The exception's traceback has this frame, and the future has the exception.
            del self
