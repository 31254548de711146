"""A second interpreter that loads calls and answers: a worker without a pool, for programs in tests."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from motet._executor.functions import FunctionTable
from motet._executor.shipping import dump_call, load_result
from motet._executor.travelling_errors import load_exception

LOOP = """
import pickle, sys
requests, answers = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
sys.path[:] = pickle.load(requests)
from motet._executor.shipping import dump_result, load_call, load_function
from motet._executor.travelling_errors import dump_exception
functions = {}
while True:
    try:
        number, blob, payload, sent = pickle.load(requests)
    except EOFError:
        break
    buffers = []
    try:
        if blob is not None:
            functions[number] = load_function(blob)
        args, kwargs = load_call(payload, sent)
        body, good = dump_result(functions[number](*args, **kwargs), buffers.append), True
    except BaseException as error:
        body, good = dump_exception(error), False
    pickle.dump((good, body, [bytearray(b) for b in buffers]), answers, 5)
    answers.flush()
"""


class Peer:
    """A worker process; `call` runs a function there and gives its result or raises its exception."""

    def __init__(self, table: FunctionTable | None = None) -> None:
        self.table = FunctionTable() if table is None else table
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        self.known: set[int] = set()
        self.blobs_sent = 0
        self.buffers_sent = 0
        self._send(sys.path)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return self._call(function, args, kwargs)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        entry = self.table.enter(function)
        self.known.difference_update(self.table.take_forgotten())
        if entry.carried:
            args = (function, *args)
        buffers: list[pickle.PickleBuffer] = []
        payload = dump_call(args, kwargs, buffers.append, getattr(function, "__qualname__", None))
        blob = None
        if entry.number not in self.known:
            self.known.add(entry.number)
            self.blobs_sent += 1
            blob = entry.blob
        self.buffers_sent += len(buffers)
        self._send((entry.number, blob, payload, [bytearray(b) for b in buffers]))
        assert self.process.stdout is not None
        good, body, buffers_back = pickle.load(self.process.stdout)
        if good:
            return load_result(body, buffers_back)
        raise load_exception(body)

    def _send(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin, 5)
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()
