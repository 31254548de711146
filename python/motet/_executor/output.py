"""What workers print: passed on by their parent in whole lines."""

from __future__ import annotations

import contextlib
import os
import sys


class Output:
    """One stream of one worker. `descriptor` reads from a pipe; `stream` names the attribute of `sys`."""

    def __init__(self, descriptor: int, stream: str, tag: str) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._stream = stream
        self._tag = tag
        # Of a line that has not ended.
        self._begun: list[bytes] = []

    def read(self) -> bool:
        """Pass on what is there; false at the end."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return True
        if not data:
            self._pass_on()
            return False
        whole, newline, rest = data.rpartition(b"\n")
        if newline:
            self._begun += (whole, newline)
            self._pass_on()
        if rest:
            self._begun.append(rest)
        return True

    def read_rest(self) -> None:
        """Pass on all that is there; nobody writes any more whom this concerns."""
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                data = b""
            if not data:
                break
            self._begun.append(data)
        self._pass_on()

    def _pass_on(self) -> None:
        data = b"".join(self._begun)
        self._begun.clear()
        if not data:
            return
        text = data.decode(errors="backslashreplace")
        if self._tag:
            text = "".join(self._tag + line for line in text.splitlines(keepends=True))
        # As `print` finds it now; None in programs without a console. Its errors are not the worker's.
        stream = getattr(sys, self._stream)
        if stream is not None:
            with contextlib.suppress(Exception):
                stream.write(text)
                stream.flush()
