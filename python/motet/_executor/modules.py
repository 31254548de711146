"""Which modules a worker can import, and so which functions and classes may travel by name."""

import os
import sys
from types import ModuleType

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Sequence

# These never mean the same module in a worker.
_MAINS = ("__main__", "__mp_main__")

# The specification that each module had when it was first seen. A reload makes another one.
_seen: dict[str, object] = {}
_by_value: set[str] = {"__main__"}
# The module that was imported last, as of the last look.
_latest = ""
_modules = sys.modules
# How the names of by-value modules look in a pickle of protocol 5: the operation for a short string, its
# length, its text.
_MAIN = b"\x8c\x08__main__"
_other_markers: tuple[bytes, ...] = ()
# A connection's plain pickle has a descriptor's number, which means something else in a worker. `by_value`
# asks multiprocessing how it travels.
_MISLEADING = "multiprocessing.connection"


def travels_by_value(name: str) -> bool:
    """Whether what the module defines is shipped by value: workers cannot import it, or have an older one."""
    if name in _by_value:
        return True
    module = _modules.get(name)
    if module is not None and getattr(module, "__spec__", None) is not _seen.get(name, _seen):
        # Reloaded: workers may have imported what it was before.
        _look()
    return name in _by_value


def refers_by_value(data: bytes) -> bool:
    """Whether a pickle of protocol 5 refers to names of a by-value module; seldom true when it does not."""
    try:
        if next(reversed(_modules)) is not _latest:
            _look()
    except RuntimeError:
        # Another thread imports.
        _look()
    # `in` takes four times as long: it asks first whether the bytes that are sought are a number.
    if data.find(_MAIN) >= 0:
        return True
    # Most often there are none: no generator for them.
    for marker in _other_markers:  # noqa: SIM110
        if data.find(marker) >= 0:
            return True
    return False


def names_by_value() -> frozenset[str]:
    """The by-value modules but for `__main__`."""
    return frozenset(_by_value.difference(_MAINS))


def _add(name: str) -> None:
    _by_value.add(name)
    _make_markers()


def _make_markers() -> None:
    global _other_markers
    names = (_by_value - {"__main__"}) | ({_MISLEADING} if _MISLEADING in _seen else set())
    _other_markers = tuple(map(_marker, sorted(names)))


def _marker(name: str) -> bytes:
    text = name.encode("utf-8", "surrogatepass")
    return b"\x8c%c%s" % (len(text), text) if len(text) < 256 else text


def _look() -> None:
    """Judge the modules that are new or were made anew."""
    global _latest
    modules = _modules.copy()
    directories = {os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)}
    for name, module in modules.items():
        spec = getattr(module, "__spec__", None)
        if name not in _seen:
            if not _importable(name, module, directories):
                _add(name)
            # Last: another thread takes a module that was seen for judged.
            _seen[name] = spec
            if name == _MISLEADING:
                _make_markers()
        elif _seen[name] is not spec and name not in _by_value:
            _add(name)
    _latest = next(reversed(modules))


def _importable(name: str, module: object, directories: set[str]) -> bool:
    if name in _MAINS:
        return False
    if not isinstance(module, ModuleType):
        # A stand-in, such as a lazy module: pickle says whether it can be used.
        return True
    spec = getattr(module, "__spec__", None)
    parent = name.rpartition(".")[0]
    if spec is None or not hasattr(spec, "has_location"):
        # Made by a program. Compiled packages make their submodules so as well.
        return bool(parent) and parent in sys.modules and parent not in _by_value and _has_file(parent)
    if spec.name != name or not spec.has_location or spec.origin is None:
        return spec.name not in _by_value
    home = os.path.dirname(spec.origin)
    if spec.submodule_search_locations is not None:
        home = os.path.dirname(home)
    if not parent:
        return home in directories or _found(name, None, spec.origin)
    if parent in _by_value:
        return False
    path = getattr(sys.modules.get(parent), "__path__", None)
    return path is None or home in path or _found(name, path, spec.origin)


def _has_file(name: str) -> bool:
    top = sys.modules.get(name.partition(".")[0])
    return getattr(top, "__spec__", None) is not None


def _found(name: str, path: "Sequence[str] | None", origin: str) -> bool:
    """Whether the import system finds the module at the very place where it is from."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:
            continue
        if spec is not None:
            return spec.origin is not None and os.path.realpath(spec.origin) == os.path.realpath(origin)
    return False
