"""The interpreter's exit while other threads import motet's modules or run its loops.

Up to Python 3.13 the interpreter ends such threads in the midst of what they do, which compiled code that
has called Python does not survive. So the exit waits for imports under way; whoever would begin one later
waits for the end instead. The core does the same for the threads of loops.
"""

import atexit
import os
import sys
import time
from _thread import allocate_lock, get_ident
from importlib import import_module

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from types import ModuleType

# Seconds that the exit waits for imports.
PATIENCE = 5.0

# The threads that import something of motet's. Each looks at `_ending` after it has entered itself here.
_importing: set[int] = set()
# The thread that ends the interpreter; 0 before.
_ending = 0


def load(name: str) -> "ModuleType":
    """Import motet's module of this name, which may need the core."""
    thread = get_ident()
    if thread in _importing:
        return import_module(name)
    _importing.add(thread)
    try:
        if _ending not in (0, thread):
            _importing.discard(thread)
            _wait_for_the_end()
        return import_module(name)
    finally:
        _importing.discard(thread)


def load_attribute(package: str, homes: "dict[str, str]", name: str) -> object:
    """What `__getattr__` gives in a package that loads its names when they are asked for.

    `homes` has the module of the package that each name is from. Raises `AttributeError` for another name.
    """
    this = sys.modules[package]
    if name not in homes:
        problem = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(problem, name=name, obj=this)
    found = this.__dict__[name] = getattr(load(f"{package}.{homes[name]}"), name)
    return found


def _wait_for_the_end() -> None:
    lock = allocate_lock()
    while True:
        lock.acquire()


def _prepare() -> None:
    global _ending
    _ending = get_ident()
    until = time.monotonic() + PATIENCE
    while _importing - {_ending} and time.monotonic() < until:
        time.sleep(0.001)
    core = sys.modules.get("motet._motet")
    if core is not None:
        core._prepare_exit()


# Before the interpreter takes down what the watchdog uses, but behind the program's own exit handlers: these
# may need loops that run in other threads.
atexit.register(_prepare)
# A child's only thread imports nothing when it is made.
os.register_at_fork(after_in_child=_importing.clear)
