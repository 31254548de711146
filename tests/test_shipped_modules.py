"""Which modules' functions and classes travel by name, and which by value."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from motet._executor import modules
from motet._executor.functions import FunctionTable
from shipping_peer import Peer

times = itertools.count(1_000_000_000, 10)


def write_module(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    # A file that changes twice within a second would be taken from the cache.
    os.utime(path, (0, next(times)))
    return path


@pytest.fixture
def module_name() -> Iterator[str]:
    name = f"shipped_{os.urandom(6).hex()}"
    yield name
    for found in [n for n in sys.modules if n.partition(".")[0] == name]:
        del sys.modules[found]


SOURCE = """
    import enum
    FACTOR = 3
    class Point:
        def __init__(self, x): self.x = x
        def scaled(self): return Point(self.x * FACTOR)
    class Kind(enum.Enum):
        A = 1
    def scale(x): return x * FACTOR
    def kind(): return Kind.A
"""


@pytest.mark.parametrize("how", ["file", "made"])
def test_modules_that_workers_cannot_import_travel_by_value(
    how: str, tmp_path: Path, module_name: str
) -> None:
    if how == "file":
        # As pytest does with --import-mode=importlib.
        path = write_module(tmp_path, module_name, SOURCE)
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    else:
        module = types.ModuleType(module_name)
        sys.modules[module_name] = module
        exec(textwrap.dedent(SOURCE), vars(module))
    assert modules.travels_by_value(module_name)
    with Peer() as peer:
        assert peer.call(module.scale, 2) == 6
        assert peer.call(module.Point(2).scaled).x == 6
        assert type(peer.call(module.Point(2).scaled)) is module.Point
        assert peer.call(module.kind) is module.Kind.A
        assert peer.call(lambda: module.scale(1)) == 3
        module.FACTOR = 4
        assert peer.call(module.scale, 2) == 8


def test_modules_on_the_path_travel_by_name(
    tmp_path: Path, module_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / module_name
    package.mkdir()
    write_module(package, "__init__", SOURCE)
    write_module(package, "part", "def f(): return __name__")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(module_name)
    part = importlib.import_module(f"{module_name}.part")
    assert not modules.travels_by_value(module_name)
    assert not modules.travels_by_value(f"{module_name}.part")
    assert module_name.encode() in FunctionTable().enter(module.scale).blob
    with Peer() as peer:
        assert peer.call(part.f) == f"{module_name}.part"
        assert type(peer.call(module.Point, 1)) is module.Point
        assert b"cloudpickle" not in peer.table.enter(module.scale).blob


def test_a_reloaded_module_is_not_mistaken_for_its_older_self(
    tmp_path: Path, module_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write_module(tmp_path, module_name, "def f(): return 'old'")
    importlib.invalidate_caches()
    module = importlib.import_module(module_name)
    with Peer() as peer:
        older = module.f
        assert peer.call(module.f) == "old"
        write_module(tmp_path, module_name, "def f(): return 'new'")
        importlib.reload(module)
        assert peer.call(module.f) == "new"
        assert peer.call(older) == "old"
        # What notebooks do when they reload: the function keeps its identity and gets new code.
        write_module(tmp_path, module_name, "def f(): return 'newest'")
        current = module.f
        importlib.reload(module)
        current.__code__ = module.f.__code__
        module.f = current
        assert peer.call(module.f) == "newest"


def test_the_standard_library_and_what_is_installed_travel_by_name() -> None:
    for name in (
        "os.path",
        "json",
        "json.decoder",
        "collections.abc",
        "pytest",
        "motet",
        "cloudpickle",
        "sys",
    ):
        importlib.import_module(name)
        assert not modules.travels_by_value(name), name
    assert not modules.travels_by_value(__name__)
