"""What a function or class that travels by value has captured, and whether that is still the same."""

import sys
from collections.abc import Iterator, Mapping
from dis import get_instructions
from enum import Enum
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from . import modules

_ABSENT = object()
_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented)}
    | {GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, ClassMethodDescriptorType}
    | {WrapperDescriptorType, CodeType}
)
# Immutable, or known by name; listed so that they need not be imported.
_NAMED_ATOMS = frozenset(
    {
        ("re", "Pattern"), ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
        ("datetime", "date"), ("datetime", "datetime"), ("datetime", "time"), ("datetime", "timedelta"),
        ("datetime", "timezone"), ("logging", "Logger"), ("logging", "RootLogger"),
        ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib._local", "PosixPath"),
        ("pathlib._local", "PurePosixPath"), ("typing", "TypeVar"), ("typing", "ParamSpec"),
        ("dataclasses", "_MISSING_TYPE"), ("dataclasses", "_HAS_DEFAULT_FACTORY_CLASS"),
        ("numpy", "ufunc"), ("numpy", "dtype"), ("numpy", "float64"), ("numpy", "int64"), ("numpy", "bool"),
    }
)  # fmt: skip
# What the interpreter and the standard library keep in classes: follows from the rest.
_PARTS_OF_CLASSES = frozenset(
    {
        "__dict__", "__weakref__", "__slotnames__", "__doc__", "__module__", "__qualname__",
        "__annotations__", "__annotations_cache__", "__annotate_func__", "__annotate__",
        "__static_attributes__", "__firstlineno__",
        "__dataclass_fields__", "__dataclass_params__", "_abc_impl", "__abstractmethods__",
        "__orig_bases__", "__parameters__", "_member_map_", "_value2member_map_", "_member_names_",
        "_unhashable_values_", "_unhashable_values_map_", "_hashable_values_", "_field_defaults", "_fields",
    }
)  # fmt: skip
# A chain of captured things longer than this is dumped anew at each call.
_DEPTH = 40

_global_names: dict[CodeType, tuple[str, ...]] = {}


def global_names(code: CodeType) -> tuple[str, ...]:
    """The global names that a function's code uses, and those of the functions within it."""
    known = _global_names.get(code)
    if known is None:
        names = {i.argval: None for i in get_instructions(code) if i.opname in _GLOBAL_OPERATIONS}
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                names.update(dict.fromkeys(global_names(constant)))
        if len(_global_names) > 10_000:
            _global_names.clear()
        known = _global_names[code] = tuple(names)
    return known


_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})


def travels_by_name(value: Any) -> bool:
    """Whether a worker that imports the value's module finds this very object there."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if type(module) is not str or type(name) is not str or modules.travels_by_value(module):
        return False
    found: Any = sys.modules.get(module, _ABSENT)
    for part in name.split("."):
        found = getattr(found, part, _ABSENT)
    return found is value


def contents(cell: CellType) -> Any:
    """What a closure's cell holds; a marker for nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


class Watch:
    """The things that functions and classes had captured, to be compared by identity."""

    __slots__ = ("_cells", "_functions", "_latest", "_lookups", "_sizes")

    def __init__(self) -> None:
        self._functions: list[tuple[FunctionType, CodeType, object, object]] = []
        self._lookups: list[tuple[Mapping[str, Any], str, object]] = []
        self._sizes: list[tuple[Mapping[str, Any], int]] = []
        self._cells: list[tuple[CellType, object]] = []
        self._latest: object = None

    def unchanged(self) -> bool:
        """Whether all captured things are the ones that they were."""
        for function, code, defaults, more in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not more
            ):
                return False
        for mapping, name, value in self._lookups:
            if mapping.get(name, _ABSENT) is not value:
                return False
        for cell, value in self._cells:
            if contents(cell) is not value:
                return False
        if self._latest is not None and _latest_module() is not self._latest:
            return False
        # Most often there are none: no generator for them.
        for mapping, size in self._sizes:  # noqa: SIM110
            if len(mapping) != size:
                return False
        return True

    def add_function(self, function: FunctionType) -> Iterator[object]:
        """Watch a function, and give what it captured."""
        more = function.__kwdefaults__
        self._functions.append((function, function.__code__, function.__defaults__, more))
        yield from function.__defaults__ or ()
        if more:
            yield from self._add_mapping(more, frozenset())
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            # A dataclass's `__repr__` has a set of the objects that are being shown.
            if name == "repr_running":
                continue
            value = contents(cell)
            self._cells.append((cell, value))
            yield value
        for name in global_names(function.__code__):
            value = function.__globals__.get(name, _ABSENT)
            self._lookups.append((function.__globals__, name, value))
            yield value
        # Asked for without need, a function's dictionary would be made.
        if attributes := function.__dict__:
            yield from self._add_mapping(attributes, frozenset())

    def add_class(self, cls: type) -> Iterator[object]:
        """Watch a class, and give what its attributes are."""
        yield from cls.__bases__
        yield type(cls)
        yield from self._add_mapping(cls.__dict__, _PARTS_OF_CLASSES)

    def follow_imports(self) -> None:
        """Watch for imports: a package has been captured, and its submodules are part of what it means."""
        self._latest = _latest_module()

    def _add_mapping(self, mapping: Mapping[str, Any], without: frozenset[str]) -> Iterator[object]:
        self._sizes.append((mapping, len(mapping)))
        for name, value in list(mapping.items()):
            if name not in without:
                self._lookups.append((mapping, name, value))
                yield value


def _latest_module() -> object:
    try:
        return next(reversed(sys.modules))
    except RuntimeError:
        # Another thread imports.
        return object()


def watch(value: object) -> Watch | None:
    """A watch over all that a by-value function or class captured; None if some of it may change in place."""
    watched = Watch()
    seen: set[int] = set()

    def constant(thing: Any, depth: int) -> bool:
        kind = type(thing)
        if kind in _ATOMS or thing is _ABSENT:
            return True
        if id(thing) in seen:
            return True
        if depth > _DEPTH:
            return False
        seen.add(id(thing))
        depth += 1
        if kind is tuple or kind is frozenset:
            return all(constant(item, depth) for item in thing)
        if kind is FunctionType:
            return travels_by_name(thing) or all(constant(c, depth) for c in watched.add_function(thing))
        if isinstance(thing, type):
            return travels_by_name(thing) or all(constant(c, depth) for c in watched.add_class(thing))
        if kind is BuiltinFunctionType:
            return isinstance(thing.__self__, ModuleType | type(None)) or constant(thing.__self__, depth)
        if kind is staticmethod or kind is classmethod:
            return constant(thing.__func__, depth)
        if kind is property:
            return all(constant(f, depth) for f in (thing.fget, thing.fset, thing.fdel))
        if isinstance(thing, Enum):
            return constant(kind, depth)
        if isinstance(thing, ModuleType):
            if hasattr(thing, "__path__"):
                watched.follow_imports()
            return not modules.travels_by_value(thing.__name__)
        if (kind.__module__, kind.__qualname__) in _NAMED_ATOMS:
            return True
        wrapped = getattr(thing, "__wrapped__", None) if kind.__name__ == "_lru_cache_wrapper" else None
        return wrapped is not None and constant(wrapped, depth)

    return watched if constant(value, 0) else None
