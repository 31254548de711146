"""The functions that a pool's workers know by number."""

import sys
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import count
from pickle import dumps
from threading import Lock
from types import FunctionType, MethodType
from typing import Any

from . import culprits
from .captures import Watch, travels_by_name, watch
from .import_paths import with_path

# How many meanings of functions a table keeps, and how many bytes of their pickles.
MEANINGS_KEPT = 1024
BYTES_KEPT = 64 << 20

# These say where they are from by other attributes, or are what a function's cache is made of.
_BUILT_IN = (type(len), type(str.upper), type(object.__init__), type(dict.__dict__["fromkeys"]))
_CacheWrapper: type = type(lru_cache(len))
_ALWAYS_CARRIED: tuple[type, ...] = (MethodType, partial)


class Entry:
    """A function with its present meaning: `number` stands for it, `blob` is what a worker loads it from.

    `carried`: it is `call` (see `CARRIED`), and the function travels with each call, as the first argument.
    """

    __slots__ = ("age", "blob", "carried", "number")

    def __init__(self, number: int, blob: bytes, carried: bool = False) -> None:
        self.number = number
        self.blob = blob
        self.carried = carried
        self.age = 0


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function that travelled as an argument."""
    return function(*args, **kwargs)


# For callables that have state: the call is `call(function, *args, **kwargs)`.
CARRIED = Entry(0, dumps(call, 5), carried=True)


class _Function:
    """What is known of a function object. It is kept alive, so that its id() stays its own."""

    __slots__ = ("by_name", "code", "entry", "function", "watch")

    def __init__(self, function: Any, entry: Entry, by_name: bool, watched: Watch | None) -> None:
        self.function = function
        self.entry = entry
        self.by_name = by_name
        self.code = function.__code__ if type(function) is FunctionType else None
        self.watch = watched


class FunctionTable:
    """Gives numbers to functions. May be used by several threads at once.

    A function that workers can import has one number. One that travels by value gets another number whenever
    what it captured has changed, so that no call runs with old values.
    """

    def __init__(self, meanings: int = MEANINGS_KEPT, size: int = BYTES_KEPT) -> None:
        self._meanings = meanings
        self._size = size
        self._functions: dict[int, _Function] = {}
        self._entries: dict[bytes, Entry] = {}
        self._numbers = count(1)
        self._age = 0
        self._bytes = 0
        self._forgotten: list[int] = []
        self._lock = Lock()
        # As no worker has less.
        self._first_path = sys.path.copy()
        self._path = self._first_path
        self._carried = CARRIED
        self._carriers = {CARRIED.blob: CARRIED}

    def enter(self, function: Callable[..., Any]) -> Entry:
        """What stands for the function now; a `carried` one if it must travel with the call.

        Raises `NotShippable` for a function that cannot be sent.
        """
        if sys.path != self._path:
            self._follow_path()
        known = self._functions.get(id(function))
        if known is not None:
            if known.by_name:
                if known.code is None or known.code is function.__code__:
                    entry = known.entry
                    entry.age = self._age
                    return entry
            elif known.watch is not None and known.watch.unchanged():
                entry = known.entry
                entry.age = self._age
                return entry
        return self._enter_anew(function)

    def take_forgotten(self) -> list[int]:
        """The numbers given up since the last time, which workers may forget. They are never used again,
        except by entries still held: to a worker that has forgotten it, such an entry's blob goes again."""
        with self._lock:
            forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def __len__(self) -> int:
        return len(self._entries)

    def _follow_path(self) -> None:
        """The program has changed `sys.path`: all functions go to the workers anew, with what was added."""
        with self._lock:
            self._path = sys.path.copy()
            self._functions.clear()
            blob = self._with_path(CARRIED.blob)
            if blob not in self._carriers:
                self._carriers[blob] = Entry(next(self._numbers), blob, carried=True)
            self._carried = self._carriers[blob]

    def _with_path(self, blob: bytes) -> bytes:
        """The pickle, with the present path if that has more than the first one."""
        path = self._path
        return blob if set(path) <= set(self._first_path) else with_path(path, blob)

    def _enter_anew(self, function: Any) -> Entry:
        kind, path = type(function), self._path
        if kind in _ALWAYS_CARRIED:
            return self._carried
        by_name, watched = True, None
        if kind in _BUILT_IN:
            owner = getattr(function, "__self__", None)
            if owner is not None and not isinstance(owner, type | type(culprits)):
                # A method of an object, such as `[].append`.
                return self._carried
            if isinstance(owner, type) and not travels_by_name(owner):
                return self._carried
        else:
            by_name = travels_by_name(function)
            if not by_name:
                if kind is not FunctionType and kind is not _CacheWrapper and not isinstance(function, type):
                    return self._carried
                # Before the dump: what changes meanwhile is seen at the next call.
                watched = watch(function)
        entry = self._entry(self._with_path(self._dump(function, by_name)))
        with self._lock:
            if self._path is path:
                self._functions[id(function)] = _Function(function, entry, by_name, watched)
            self._age += 1
            entry.age = self._age
            if len(self._functions) > 2 * self._meanings:
                self._forget_functions()
        return entry

    def _dump(self, function: Any, by_name: bool) -> bytes:
        try:
            if by_name:
                return dumps(function, 5)
            from .by_value import dumps as dumps_by_value

            return dumps_by_value(function, nested=True)
        except Exception as error:
            raise culprits.not_shippable(function, culprits.name_of(function), "function", error) from error

    def _entry(self, blob: bytes) -> Entry:
        with self._lock:
            entry = self._entries.get(blob)
            if entry is None:
                entry = self._entries[blob] = Entry(next(self._numbers), blob)
                self._bytes += len(blob)
                # The new one counts as used, whatever its size.
                self._age += 1
                entry.age = self._age
                if len(self._entries) > self._meanings or self._bytes > self._size:
                    self._forget_entries(keep=entry)
        return entry

    def _forget_entries(self, keep: Entry) -> None:
        """Give up the entries unused for longest, a quarter at least, so that this happens seldom."""
        leaving: set[int] = set()
        entries = sorted(self._entries.values(), key=lambda entry: entry.age)
        for entry in entries:
            few_enough = len(self._entries) <= self._meanings - self._meanings // 4
            if few_enough and self._bytes <= self._size // 2:
                break
            if entry is not keep:
                del self._entries[entry.blob]
                self._bytes -= len(entry.blob)
                leaving.add(entry.number)
        self._forgotten.extend(sorted(leaving))
        self._remove(f for f in list(self._functions.values()) if f.entry.number in leaving)

    def _forget_functions(self) -> None:
        oldest = sorted(self._functions.values(), key=lambda known: known.entry.age)
        # Of one age are many function objects with one meaning: the earlier ones leave.
        self._remove(oldest[: self._meanings])

    def _remove(self, functions: "Iterable[_Function]") -> None:
        for known in functions:
            self._functions.pop(id(known.function), None)
