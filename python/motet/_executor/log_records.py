"""What workers log: handled by their parent's loggers."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable


class ToParent(logging.Handler):
    """Sends records to the parent, where the loggers of the same names handle them."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, in its final form: arguments and tracebacks may not be picklable."""
        try:
            known = dict(record.__dict__)
            known["msg"] = record.getMessage()
            known["args"] = None
            if record.exc_info:
                known["exc_text"] = logging.Formatter().formatException(record.exc_info)
                known["exc_info"] = None
            try:
                data = pickle.dumps(known)
            except Exception:
                # Of `extra`, what cannot be sent is left out as its text.
                plain = {str, int, float, bool, type(None)}
                data = pickle.dumps({k: v if type(v) in plain else repr(v) for k, v in known.items()})
            self._send(data)
        except Exception:
            self.handleError(record)


def install(send: Callable[[bytes], object], level: int) -> None:
    """In a worker: have the root logger send all from this level on to the parent."""
    root = logging.getLogger()
    root.handlers[:] = [ToParent(send)]
    root.setLevel(level)


def handle(data: bytes) -> None:
    """In the parent: handle a worker's record."""
    record = logging.makeLogRecord(pickle.loads(data))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
