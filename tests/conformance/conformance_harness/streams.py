"""Native streams in the place of asyncio's, for a suite that tests those.

Its tests make readers, writers and protocols by hand, on any loop; so the classes are replaced, which no
program has done to it, and the functions with them.
"""

import asyncio
import importlib
from asyncio import streams
from typing import Any

NAMES = (
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
)


def use_native_streams() -> None:
    """Put motet's classes and functions where the tests look for asyncio's."""
    motet: Any = importlib.import_module("motet")
    for name in NAMES:
        for module in (asyncio, streams):
            module.__dict__[name] = getattr(motet, name)
