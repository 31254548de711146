"""The event loops that are compared, and the one line that makes each of them.

Run as a program with a loop's name, it makes that loop and prints its version as JSON: the harness asks in a
child process, so that a loop that cannot be imported, or that crashes, is an answer and not the run's end.
"""

import asyncio
import importlib
import importlib.metadata
import json
import sys
from typing import cast

MOTET = "motet"
STOCK = "asyncio"
# Not a loop, but transports of its own for another's: it competes where TLS is measured.
AIOFASTNET = "aiofastnet"
RIVALS = (STOCK, "uvloop", "rloop", "zuvloop", AIOFASTNET)
LOOPS = (*RIVALS, MOTET)
OLDEST_PYTHON = {"zuvloop": (3, 14)}


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make a new event loop of the named kind."""
    if name == STOCK:
        return asyncio.SelectorEventLoop()
    if name == AIOFASTNET:
        aiofastnet, uvloop = importlib.import_module(name), importlib.import_module("uvloop")
        return cast(asyncio.AbstractEventLoop, aiofastnet.patch_loop(uvloop.new_event_loop()))
    return cast(asyncio.AbstractEventLoop, importlib.import_module(name).new_event_loop())


def describe(name: str) -> dict[str, object]:
    """Say which version of a loop is installed, and whether this process still holds a GIL with it."""
    oldest = OLDEST_PYTHON.get(name, (3, 11))
    if sys.version_info < oldest:
        raise ImportError(f"{name} needs Python {oldest[0]}.{oldest[1]} or later")
    new_event_loop(name).close()
    version = sys.version.split()[0] if name == STOCK else importlib.metadata.version(name)
    gil_enabled = getattr(sys, "_is_gil_enabled", None)
    return {"version": version, "gil": True if gil_enabled is None else gil_enabled()}


if __name__ == "__main__":
    try:
        print(json.dumps(describe(sys.argv[1])))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
