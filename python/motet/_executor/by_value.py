"""cloudpickle's pickler, with what motet's workers need beyond it.

Imported when something has to travel by value: cloudpickle takes a while to import.
"""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable
from copyreg import dispatch_table as registered
from enum import Enum
from functools import lru_cache
from pickle import PickleBuffer
from types import FunctionType, MethodDescriptorType, MethodType
from typing import Any, NewType
from weakref import WeakKeyDictionary, WeakValueDictionary

import cloudpickle  # type: ignore[import-untyped]

from . import classes, frames, modules, namespaces
from .captures import Watch, watch

BufferCallback = Callable[[PickleBuffer], object]

_CacheWrapper: type = type(lru_cache(len))
_named = 0
_reductions: dict[Any, Any] = {}
_registered = -1


class _Blob:
    """A class's pickle, good while what it captured is unchanged."""

    __slots__ = ("blob", "cls", "version", "watch")

    def __init__(self, cls: type, version: int, blob: bytes, watched: Watch | None) -> None:
        self.cls = cls
        self.version = version
        self.blob = blob
        self.watch = watched


_blobs: dict[int, _Blob] = {}
_versions = itertools.count()


def dumps(
    value: object,
    callback: BufferCallback | None = None,
    *,
    to_worker: bool = True,
    nested: bool = False,
) -> bytes:
    """A pickle in which nothing refers to what only this process has.

    To a worker, by-value classes travel as pickles of their own that are made and read once (but not within
    `nested` ones, which may refer to each other). From a worker, classes that the parent sent travel by name.
    """
    _prepare()
    with io.BytesIO() as file:
        _Pickler(file, callback, to_worker, nested).dump(value)
        return file.getvalue()


def _prepare() -> None:
    """Tell cloudpickle of modules that workers cannot import, and see what was registered with `copyreg`."""
    global _named, _registered
    names = modules.names_by_value()
    if len(names) != _named:
        for name in names:
            module = sys.modules.get(name)
            if module is not None and name not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
        _named = len(names)
    reduction: Any = sys.modules.get("multiprocessing.reduction")
    multiprocessing_knows = {} if reduction is None else reduction.ForkingPickler._extra_reducers
    frames.find_libraries()
    count = len(registered) + len(multiprocessing_knows) + len(frames.reductions)
    if count != _registered:
        # One dictionary instead of cloudpickle's chain of them, which is asked about every object.
        # multiprocessing's first: of connections and sockets it alone knows how they travel.
        reductions = {
            **frames.reductions, **multiprocessing_knows, **registered, **cloudpickle.Pickler._dispatch_table
        }  # fmt: skip
        reductions[MethodType] = _reduce_method
        reductions[_CacheWrapper] = _reduce_cache
        reductions[NewType] = _reduce_new_type
        reductions[WeakKeyDictionary] = reductions[WeakValueDictionary] = _reduce_weak_dictionary
        _reductions.update(reductions)
        # Last: another thread may be here, and must not go on with nothing.
        _registered = count


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table = _reductions

    def __init__(
        self, file: io.BytesIO, callback: BufferCallback | None, to_worker: bool, nested: bool
    ) -> None:
        super().__init__(file, 5, callback)
        self._to_worker = to_worker
        self._nested = nested

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            try:
                return super().reducer_override(obj)
            except NameError:
                # Annotations are worked out late, and may name what only type checkers see.
                return super().reducer_override(_without_annotations(obj))
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if issubclass(kind, BaseException):
            return _reduce_exception(obj)
        return NotImplemented

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        if not self._to_worker:
            return super()._dynamic_function_reduce(func)
        key = id(func.__globals__)
        self.globals_ref.setdefault(key, namespaces.Origin(key))
        maker, arguments, state, _, _, _ = super()._dynamic_function_reduce(func)
        namespaces.hold_back(state[1]["__globals__"])
        return maker, arguments, (key, state), None, None, namespaces.set_state

    def _reduce_class(self, cls: type) -> Any:
        if not self._to_worker:
            identity = classes.from_above(cls)
            if identity is not None:
                return classes.own_class, (identity,)
        elif not self._nested:
            known = _blobs.get(id(cls))
            if known is not None and known.cls is cls and known.watch is not None and known.watch.unchanged():
                return classes.receive, (classes.identify(cls).identity, known.version, known.blob)
        reduced = super().reducer_override(cls)
        if type(reduced) is not tuple or len(reduced) != 6:
            return reduced
        identity = classes.identify(cls).identity
        if self._to_worker:
            classes.keep(cls)
            if not self._nested:
                return classes.receive, (identity, *_blob(cls))
        maker, arguments, state, _, _, setter = reduced
        origin = (identity, self._to_worker, maker, _with_slots(cls, arguments))
        filling = (setter, state, _attributes_of_members(cls))
        return classes.create, origin, filling, None, None, classes.fill


def _blob(cls: type) -> tuple[int, bytes]:
    """The class's version and pickle."""
    # Watched first: what changes during the dump is seen at the next one.
    watched = watch(cls)
    blob = dumps(cls, nested=True)
    known = _blobs.get(id(cls))
    if known is not None and known.cls is cls and known.blob == blob:
        version = known.version
    else:
        version = next(_versions)
        if known is None and len(_blobs) >= classes.KEPT:
            with contextlib.suppress(StopIteration, RuntimeError):
                _blobs.pop(next(iter(_blobs)), None)
    _blobs[id(cls)] = _Blob(cls, version, blob, watched)
    return version, blob


def _with_slots(cls: type, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes an empty class of, with the slots, which it forgets."""
    slots = cls.__dict__.get("__slots__")
    if not slots or not isinstance(slots, str | tuple | list | dict) or not isinstance(arguments[3], dict):
        return arguments
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return (*arguments[:3], {**arguments[3], "__slots__": names}, *arguments[4:])


def _attributes_of_members(cls: type) -> dict[str, dict[str, Any]]:
    """What an enumeration's own `__init__` gave its members; cloudpickle does not call it again."""
    if not issubclass(cls, Enum):
        return {}
    given = {m.name: {k: v for k, v in vars(m).items() if k not in _PARTS_OF_MEMBERS} for m in cls}
    return {name: attributes for name, attributes in given.items() if attributes}


_PARTS_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})


def _without_annotations(function: FunctionType) -> FunctionType:
    f = function
    plain = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    plain.__kwdefaults__ = function.__kwdefaults__
    plain.__qualname__ = function.__qualname__
    plain.__module__ = function.__module__
    plain.__doc__ = function.__doc__
    plain.__dict__.update(function.__dict__)
    plain.__annotations__ = {}
    return plain


# ---- kinds of objects that cloudpickle, or pickle, would send by name or not at all ----


def _reduce_method(method: MethodType) -> Any:
    # As pickle does, so that the class's own function is called; by its parts where the name leads elsewhere.
    name = getattr(method.__func__, "__name__", None)
    try:
        if isinstance(name, str) and getattr(method.__self__, name) == method:
            return getattr, (method.__self__, name)
    except Exception:
        pass
    return MethodType, (method.__func__, method.__self__)


def _reduce_cache(wrapper: Any) -> Any:
    function = wrapper.__wrapped__
    if _refers(wrapper):
        return wrapper.__reduce__()
    settings = wrapper.cache_parameters()
    return make_cache, (function, settings["maxsize"], settings["typed"])


def _reduce_new_type(made: Any) -> Any:
    if _refers(made):
        return made.__reduce__()
    return make_new_type, (made.__name__, made.__supertype__, made.__module__)


def _reduce_weak_dictionary(weak: Any) -> Any:
    # `functools.singledispatch` has one.
    return type(weak), (dict(weak),)


def _refers(obj: Any) -> bool:
    from .captures import travels_by_name

    return travels_by_name(obj)


def make_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    """A function's cache, empty."""
    return lru_cache(maxsize, typed)(function)


def make_new_type(name: str, supertype: Any, module: str) -> Any:
    """A `typing.NewType` that is in no module."""
    make: Any = NewType
    made = make(name, supertype)
    made.__module__ = module
    return made


def _reduce_exception(error: BaseException) -> Any:
    """Without a call of the class's own `__init__`, whose arguments need not be the exception's `args`."""
    cls: Any = type(error)
    if type(cls.__reduce__) is not MethodDescriptorType or cls.__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    reduced: Any = error.__reduce__()
    if type(reduced) is not tuple or len(reduced) not in (2, 3) or reduced[0] is not cls:
        return NotImplemented
    state = dict(reduced[2] or {}) if len(reduced) == 3 else {}
    if isinstance(error, NameError | AttributeError):
        # Which not every version of Python pickles.
        state["name"] = error.name
    return rebuild_exception, (cls, reduced[1]), state, None, None, fill_exception


def rebuild_exception(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An exception as its class's built-in base makes it."""
    base: Any = cls
    # Of several built-in bases, the one whose memory layout the class has: no other may make it.
    while base.__flags__ & _HEAP_TYPE:
        base = base.__base__
    error: BaseException = base.__new__(cls, *arguments)
    base.__init__(error, *arguments)
    return error


# Of `type.__flags__`: the class was made by a class statement.
_HEAP_TYPE = 1 << 9


def fill_exception(error: BaseException, state: dict[str, Any]) -> None:
    """Give an exception its attributes."""
    error.__setstate__(state)
