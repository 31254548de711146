"""Classes that travel by value, and stay one class on either side however often they travel."""

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError, loads
from threading import Lock
from typing import Any

# How many classes that went to workers are kept, for instances that come back.
KEPT = 4096


class _Known:
    __slots__ = ("above", "here", "identity", "reference")

    def __init__(self, reference: "weakref.ref[type]", identity: bytes, here: bool, above: bool) -> None:
        self.reference = reference
        self.identity = identity
        # Defined in this process, whose definition counts.
        self.here = here
        # Came from the parent process, which finds it by its identity.
        self.above = above


# By id(): a metaclass may have its own idea of equality. Single operations on dictionaries need no lock.
_known: dict[int, _Known] = {}
_by_identity: dict[bytes, _Known] = {}
_kept: "OrderedDict[int, type]" = OrderedDict()
_versions: dict[bytes, tuple[int, type]] = {}
_lock = Lock()


def identify(cls: type) -> _Known:
    """What stands for the class in all processes."""
    known = _known.get(id(cls))
    if known is not None and known.reference() is cls:
        return known
    with _lock:
        known = _known.get(id(cls))
        if known is not None and known.reference() is cls:
            return known
        return _enter(cls, os.urandom(16), here=True, above=False)


def from_above(cls: type) -> bytes | None:
    """The identity of a class that the parent process has sent, else None."""
    known = _known.get(id(cls))
    if known is not None and known.above and known.reference() is cls:
        return known.identity
    return None


def keep(cls: type) -> None:
    """Let the class live on for its instances that come back; the `KEPT` latest ones do."""
    if id(cls) in _kept:
        return
    with _lock:
        _kept[id(cls)] = cls
        if len(_kept) > KEPT:
            _kept.popitem(last=False)


def _enter(cls: type, identity: bytes, here: bool, above: bool) -> _Known:
    key = id(cls)

    def forget(reference: "weakref.ref[type]") -> None:
        # No lock: the garbage collector may call this anywhere.
        entry = _known.get(key)
        if entry is not None and entry.reference is reference:
            _known.pop(key, None)
        entry = _by_identity.get(identity)
        if entry is not None and entry.reference is reference:
            _by_identity.pop(identity, None)

    known = _Known(weakref.ref(cls, forget), identity, here, above)
    _known[key] = known
    _by_identity[identity] = known
    return known


def _find(identity: bytes) -> type | None:
    known = _by_identity.get(identity)
    return None if known is None else known.reference()


# ---- what pickles call ----


def own_class(identity: bytes) -> type:
    """The class that this process once sent."""
    found = _find(identity)
    if found is None:
        raise UnpicklingError("a worker answered with an instance of a class that is no longer here")
    return found


def create(
    identity: bytes, from_parent: bool, maker: Callable[..., type], arguments: tuple[Any, ...]
) -> type:
    """The class of this identity, made as an empty one if this process does not have it."""
    found = _find(identity)
    if found is not None:
        return found
    made = maker(*arguments)
    with _lock:
        found = _find(identity)
        if found is None:
            _enter(made, identity, here=False, above=from_parent)
            found = made
    return found


def fill(cls: Any, state: tuple[Callable[[type, Any], object], Any, dict[str, dict[str, Any]]]) -> None:
    """Give a class its attributes, unless it was defined in this process."""
    known = _known.get(id(cls))
    if known is None or not known.here:
        setter, attributes, members = state
        setter(cls, attributes)
        for name, given in members.items():
            vars(cls[name]).update(given)


def receive(identity: bytes, version: int, blob: bytes) -> type:
    """The class whose pickle is `blob`, which is not read when this version is here already."""
    present = _versions.get(identity)
    if present is not None and present[0] == version:
        return present[1]
    cls: type = loads(blob)
    with _lock:
        _versions.pop(identity, None)
        _versions[identity] = version, cls
        if len(_versions) > KEPT:
            del _versions[next(iter(_versions))]
    return cls
