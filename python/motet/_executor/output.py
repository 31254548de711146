"""What workers print: passed on by their parent in whole lines."""

from __future__ import annotations

import contextlib
import os
import sys


class Output:
    """One stream of one worker. `descriptor` is the reading end of a pipe; `stream` names the attribute of `sys`."""

    def __init__(self, descriptor: int, stream: str, tag: str) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._stream = stream
        self._tag = tag
        self._begun = b""

    def read(self) -> bool:
        """Pass on what is there; false at the end."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return True
        if not data:
            self._pass_on(self._begun)
            self._begun = b""
            return False
        whole, newline, self._begun = (self._begun + data).rpartition(b"\n")
        self._pass_on(whole + newline)
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
            self._begun += data
        self._pass_on(self._begun)
        self._begun = b""

    def _pass_on(self, data: bytes) -> None:
        if not data:
            return
        text = data.decode(errors="backslashreplace")
        if self._tag:
            text = "".join(self._tag + line for line in text.splitlines(keepends=True))
        # As `print` finds it now; None in programs without a console. What is wrong with it is not the worker's matter.
        stream = getattr(sys, self._stream)
        if stream is not None:
            with contextlib.suppress(Exception):
                stream.write(text)
                stream.flush()
