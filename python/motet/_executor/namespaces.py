"""The global variables of functions that travel by value, in a worker.

Each version of a function has global variables of its own there, as the program had them when it was sent.
But what a pool's initializer makes of them is for all functions that come later from the same module, as it
would be if the worker had imported that: initializers set variables for the calls to come.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NoReturn

# What cannot be changed in place, or is newer in what comes later.
_NOT_KEPT: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, range,
    type, FunctionType, BuiltinFunctionType, ModuleType,
)  # fmt: skip


class Origin(dict[str, Any]):
    """Stands for a function's global variables in its pickle, and has those that say where it is from.

    `key` stands for their dictionary in the program.
    """

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key

    def __reduce__(self) -> Any:
        return begin, (self.key, dict(self))


# Where multiprocessing has what its processes share, and lets it travel to new processes alone.
_SHARED = frozenset({"multiprocessing.queues", "multiprocessing.sharedctypes", "multiprocessing.synchronize"})


class HeldBack:
    """Stands for what processes share, for a function to find where the initializer has set nothing."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise RuntimeError(
            f"{self._name!r} is shared by processes and reaches workers as they begin: "
            "hand it to the initializer of the pool, and have that set it"
        )

    __setattr__ = __enter__ = __exit__ = __getitem__ = __setitem__ = __len__ = __iter__ = _refuse


def hold_back(variables: dict[str, Any]) -> None:
    """Of a function's global variables, those that cannot be sent with it but by an initializer."""
    if "multiprocessing.context" in sys.modules:
        for name, value in variables.items():
            if _is_shared(value):
                variables[name] = HeldBack(name)


def _is_shared(value: object) -> bool:
    homes = {base.__module__ for base in type(value).__mro__}
    if "_ctypes" in homes:
        # `multiprocessing.RawValue` and `RawArray` make it what it is.
        return hasattr(value, "_wrapper")
    return not _SHARED.isdisjoint(homes)


# What the initializer has left, by key.
_kept: dict[int, dict[str, Any]] = {}
# The variables of functions that came with it: their key, themselves, and what they were before it ran.
_of_initializer: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
# Those whose functions are being loaded with it now.
_begun: list[tuple[int, dict[str, Any]]] | None = None
_ABSENT = object()


def begin(key: int, variables: dict[str, Any]) -> dict[str, Any]:
    """In a worker: the global variables of functions that came together."""
    if _begun is not None:
        _begun.append((key, variables))
    return variables


def set_state(function: FunctionType, state: tuple[int, Any]) -> None:
    """In a worker: complete a function that was made without its contents."""
    key, contents = state
    sys.modules["cloudpickle.cloudpickle"]._function_setstate(function, contents)
    function.__globals__.update(_kept.get(key, ()))


@contextlib.contextmanager
def of_initializer() -> Iterator[None]:
    """In a worker: the initializer and its arguments are loaded meanwhile."""
    global _begun
    begun: list[tuple[int, dict[str, Any]]] = []
    _begun = begun
    try:
        yield
    finally:
        _begun = None
    _of_initializer[:] = [(key, variables, variables.copy()) for key, variables in begun]


def keep() -> None:
    """In a worker, after its initializer: what that has set, or may have changed, is there for all."""
    for key, variables, before in _of_initializer:
        for name, value in variables.items():
            is_own = value is not before.get(name, _ABSENT) or not isinstance(value, _NOT_KEPT)
            if is_own and not (name.startswith("__") and name.endswith("__")):
                _kept.setdefault(key, {})[name] = value
    _of_initializer.clear()
