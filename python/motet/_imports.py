"""Actions that follow the import of a module, whenever, wherever and by whatever words it is imported."""

from __future__ import annotations

import sys
from _thread import get_ident
from importlib import import_module
from importlib.machinery import SourceFileLoader

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def after(name: str, action: Callable[[], None]) -> None:
    """Carry out `action` right after the import of `name`, or at once if that has happened.

    No other thread gets the module before.
    """
    if name in sys.modules:
        # Perhaps another thread is still about it.
        import_module(name)
        action()
    else:
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder:
    """Finds one module, where others find it, until it has been imported."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self._name = name
        self._action = action
        self._asking: set[int] = set()
        self._done = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        thread = get_ident()
        if name != self._name or self._done or thread in self._asking:
            return None
        from importlib.util import find_spec

        self._asking.add(thread)
        try:
            spec = find_spec(name)
        finally:
            self._asking.discard(thread)
        if spec is not None and spec.loader is not None:
            followed: Any = _Loader(spec.loader, self._imported)
            spec.loader = followed
        return spec

    def _imported(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if not self._done:
            self._done = True
            self._action()


class _Loader:
    """A module's loader, and what follows the execution of the module."""

    def __init__(self, loader: Any, action: Callable[[], None]) -> None:
        self._loader = loader
        self._action = action

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        # The module shows the loader that it has without motet.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._action()


# So the interpreter leaves the frame out of tracebacks, as it does with the frames of its own loaders.
_Loader.exec_module.__code__ = _Loader.exec_module.__code__.replace(
    co_filename=SourceFileLoader.exec_module.__code__.co_filename
)
