"""What a program adds to `sys.path` after its workers have started goes to them with the functions."""

from __future__ import annotations

import importlib
import sys
from _pickle import dumps, loads
from typing import Any


class WithPath:
    """The pickle of a function, which loads where `sys.path` has these entries as well."""

    def __init__(self, path: list[str], blob: bytes) -> None:
        self._path = path
        self._blob = blob

    def __reduce__(self) -> Any:
        return _load, (self._path, self._blob)


def with_path(path: list[Any], blob: bytes) -> bytes:
    """A pickle that loads as `blob` does, behind the entries of `path` that are new."""
    return dumps(WithPath([entry for entry in path if isinstance(entry, str)], blob), 5)


def _load(path: list[str], blob: bytes) -> Any:
    follow(path)
    return loads(blob)


def follow(path: list[str]) -> None:
    """Add to `sys.path` what it lacks, each entry behind the one that it is behind in `path`."""
    place = 0
    for entry in path:
        if entry in sys.path:
            place = sys.path.index(entry) + 1
        else:
            sys.path.insert(place, entry)
            place += 1
    # A folder may have been seen before it had what is sought now.
    importlib.invalidate_caches()
