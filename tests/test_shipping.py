"""Functions, arguments and results between a program and its workers."""

from __future__ import annotations

import array
import collections
import functools
import gc
import importlib
import importlib.util
import os
import pickle
import sys
import textwrap
import threading
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RunProgram
from motet._executor import modules, shipping
from motet._executor.errors import MotetError, NotShippable
from motet._executor.functions import CARRIED, FunctionTable
from motet._executor.shipping import dump_call, dump_result, load_call, load_function, load_result
from shipping_peer import Peer

Buffers = list[pickle.PickleBuffer]


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


class Buffered:
    """Travels as a buffer out of band, as arrays do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffered, (pickle.PickleBuffer(self.data),)


class Failing:
    def __reduce__(self) -> Any:
        raise RuntimeError("not this one")


class Holder:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def product(a: int, b: int = 2) -> int:
    return a * b


# ---- arguments and results ----


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1,), {}),
        ((), {"a": 1}),
        ((1, "x", None, 2.5, b"b", True), {"k": [1, {2}]}),
        (((1, 2), {}), {}),
        (([1], {"a": 1}), {}),
        ((((),),), {}),
    ],
)
def test_arguments_return_as_they_were(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    loaded_args, loaded_kwargs = load_call(dump_call(args, kwargs))
    assert type(loaded_args) is tuple
    assert (loaded_args, loaded_kwargs) == (args, kwargs)


def test_a_call_without_arguments_is_no_bytes() -> None:
    assert dump_call((), {}) == b""


@pytest.mark.parametrize("value", [None, 1, "text", b"bytes", [1, 2], {"a": (1,)}, product, Holder, os.path])
def test_results_return_as_they_were(value: object) -> None:
    assert load_result(dump_result(value)) == value


def test_large_buffers_are_handed_over_and_small_ones_stay() -> None:
    large, small = bytearray(shipping.IN_BAND), bytearray(b"small")
    outside: Buffers = []
    data = dump_call((Buffered(large), Buffered(small)), {"again": Buffered(large)}, outside.append)
    assert [memoryview(buffer).nbytes for buffer in outside] == [len(large)] * 2
    assert len(data) < 1000
    args, kwargs = load_call(data, outside)
    assert (args[0].data, args[1].data, kwargs["again"].data) == (large, small, large)


def test_without_anyone_to_take_them_buffers_are_in_the_bytes() -> None:
    (loaded,), _ = load_call(dump_call((Buffered(bytearray(100_000)),), {}))
    assert loaded.data == bytearray(100_000)


def test_buffers_are_handed_over_once_where_pickle_fails_first() -> None:
    large = bytearray(shipping.IN_BAND)
    outside: Buffers = []
    # The lambda, which pickle cannot send, comes after the buffer.
    data = dump_call((Buffered(large), lambda: 5), {}, outside.append)
    assert len(outside) == 1
    (first, second), _ = load_call(data, outside)
    assert (first.data, second()) == (large, 5)
    outside = []
    with pytest.raises(NotShippable):
        dump_call((Buffered(large), threading.Lock()), {}, outside.append)
    assert outside == []


def test_buffers_go_both_ways(peer: Peer) -> None:
    answer = peer.call(lambda b: b, Buffered(bytearray(100_000)))
    assert type(answer) is Buffered
    assert len(answer.data) == 100_000
    assert peer.buffers_sent > 0


def test_text_that_looks_like_main_is_only_text(peer: Peer) -> None:
    assert peer.call(list, ("__main__",)) == ["__main__"]
    assert load_result(dump_result({"__main__": "__main__"})) == {"__main__": "__main__"}


def test_local_classes_return_as_themselves(peer: Peer) -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

        def more(self) -> Local:
            return Local(self.n + 1)

    class Child(Local):
        pass

    more = Local.more
    found = peer.call(Local(1).more)
    assert type(found) is Local
    assert found.n == 2
    assert type(peer.call(lambda: Child(1))) is Child
    assert type(peer.call(lambda x: x, Child(4))) is Child
    assert Local.more is more


def test_a_class_is_read_once_by_a_worker() -> None:
    class Local:
        pass

    first, second = dump_call((Local(),), {}), dump_call((Local(),), {})
    assert first == second
    Local.changed = 1  # type: ignore[attr-defined]
    assert dump_call((Local(),), {}) != first


# ---- what cannot be sent ----


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((1, threading.Lock()), {}, "argument 2 of f to a worker: it is of type _thread.lock"),
        ((), {"lock": threading.Lock()}, "argument 'lock' of f"),
        (([{"k": threading.Lock()}],), {}, r"1 of f.*item \[0\], in it item \['k'\] is of type _thread.lock"),
        ((Holder(a=1, b=Holder(c=threading.Lock())),), {}, "attribute 'b', in it attribute 'c' is of type"),
        ((Failing(),), {}, "Failing: RuntimeError: not this one"),
        ((functools.partial(print, threading.Lock()),), {}, r"arguments, in it item \[0\] is of type"),
        ((Holder(lock=threading.Lock()).__repr__,), {}, "object, in it attribute 'lock'|attribute 'lock'"),
    ],
)
def test_the_argument_that_cannot_be_sent_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(NotShippable, match=said) as caught:
        dump_call(args, kwargs, None, "f")
    assert isinstance(caught.value, MotetError)
    assert isinstance(caught.value, pickle.PicklingError)
    assert caught.value.__cause__ is not None


def test_the_captured_variable_that_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    table = FunctionTable()

    def inner() -> object:
        return lock

    def outer() -> object:
        return inner()

    with pytest.raises(NotShippable, match=r"captured variable 'lock' is of type _thread.lock"):
        table.enter(inner)
    with pytest.raises(NotShippable, match=r"outer.*'inner', in it captured variable 'lock'"):
        table.enter(outer)
    with pytest.raises(NotShippable, match=r"default value 1 is of type _thread.lock"):
        table.enter(lambda a=lock: a)
    namespace: dict[str, Any] = {"GUARD": lock, "__name__": "__main__"}
    exec("def use():\n    with GUARD: pass", namespace)
    with pytest.raises(NotShippable, match=r"__main__.use to a worker: its global variable 'GUARD'"):
        table.enter(namespace["use"])


def test_the_part_of_a_result_that_cannot_be_sent_is_named(peer: Peer) -> None:
    def bad() -> object:
        import threading

        return {"rows": [1, threading.Lock()]}

    with pytest.raises(NotShippable, match=r"back from the worker: its item \['rows'\], in it item \[1\]"):
        peer.call(bad)
    assert peer.call(product, 4) == 8


def test_objects_with_hostile_attributes_are_survived() -> None:
    class Hostile:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

        def __repr__(self) -> str:
            raise RuntimeError("repr")

    with pytest.raises(NotShippable):
        dump_call((Hostile(), {threading.Lock(): Hostile()}), {})


# ---- the table ----


def test_functions_of_modules_keep_one_number() -> None:
    table = FunctionTable()
    entry = table.enter(product)
    assert table.enter(product) is entry
    assert load_function(entry.blob) is product
    functions = (product, len, str.upper, os.path.join, Holder, int, dict.fromkeys)
    numbers = {table.enter(function).number for function in functions}
    assert len(numbers) == 7
    assert 0 not in numbers


def test_what_has_state_travels_with_each_call() -> None:
    table = FunctionTable()
    counter: collections.Counter[str] = collections.Counter()
    for function in (Holder().__repr__, functools.partial(product, 1), [].append, counter.update):
        assert table.enter(function) is CARRIED
    assert load_function(CARRIED.blob)(product, 3, b=3) == 9


def test_equal_lambdas_share_a_number() -> None:
    table = FunctionTable()
    assert len({table.enter(lambda x: x + 1).number for _ in range(20)}) == 1
    assert len({table.enter(lambda x, i=i: x + i).number for i in range(20)}) == 20


def test_what_was_captured_is_seen_as_it_is() -> None:
    table = FunctionTable()
    factor = 5

    def scaled(x: int) -> int:
        return x * factor

    def twice(x: int) -> int:
        return scaled(x) * 2

    first = table.enter(twice)
    assert table.enter(twice) is first
    factor = 6
    second = table.enter(twice)
    assert load_function(second.blob)(1) == 12
    assert second.number != first.number
    factor = 5
    assert table.enter(twice).number == first.number
    scaled.__defaults__ = (3,)
    assert load_function(table.enter(twice).blob)(1) == 10
    scaled.note = "x"  # type: ignore[attr-defined]
    assert table.enter(twice).number != first.number


def test_mutable_captures_are_dumped_again() -> None:
    table = FunctionTable()
    items = [1]
    holder = Holder(n=1)

    def total() -> Any:
        return sum(items) + holder.n

    first = table.enter(total)
    assert table.enter(total) is first
    items.append(5)
    second = table.enter(total)
    assert load_function(second.blob)() == 7
    holder.n = 10
    assert load_function(table.enter(total).blob)() == 16


def test_the_table_is_bounded_and_tells_what_it_gave_up() -> None:
    table = FunctionTable(meanings=16)
    kept = table.enter(product)
    numbers = []
    for i in range(200):
        numbers.append(table.enter(lambda i=i: i).number)
        assert table.enter(product) is kept
        assert len(table) <= 16
    assert len(set(numbers)) == 200
    forgotten = table.take_forgotten()
    assert table.take_forgotten() == []
    assert kept.number not in forgotten
    assert set(forgotten) < set(numbers)
    assert len(forgotten) == 201 - len(table)
    again = table.enter(lambda i=0: i)
    assert again.number not in forgotten


def test_the_table_is_bounded_in_bytes() -> None:
    table = FunctionTable(size=1_000_000)
    for i in range(20):
        text = bytes([i]) * 400_000
        table.enter(lambda text=text: text)
        assert len(table) <= 3


@pytest.mark.thread_unsafe(reason="runs the collector")
def test_functions_do_not_stay_for_ever() -> None:
    table = FunctionTable(meanings=8)

    def make() -> Any:
        return lambda x: x

    references = []
    for _ in range(100):
        function = make()
        references.append(weakref.ref(function))
        table.enter(function)
    del function
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 17


def test_threads_enter_functions_together() -> None:
    table = FunctionTable(meanings=8)
    problems: list[BaseException] = []
    barrier = threading.Barrier(4)

    def enter() -> None:
        try:
            barrier.wait(timeout=60)
            for i in range(200):
                place = i % 20
                assert load_function(table.enter(lambda place=place: place).blob)() == place
                assert load_function(table.enter(product).blob) is product
                table.take_forgotten()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# ---- modules ----


def write_module(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    # A file that changes twice within a second would be taken from the cache.
    os.utime(path, (0, write_module.time))
    write_module.time += 10
    return path


write_module.time = 1_000_000_000  # type: ignore[attr-defined]


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


# ---- what importing costs ----


def test_workers_load_neither_asyncio_nor_cloudpickle(run_program: RunProgram) -> None:
    done = run_program(
        """
        import sys
        from motet._executor.shipping import dump_call, dump_result, load_call, load_function, load_result
        from motet._executor import travelling_errors, errors
        load_call(dump_call((1, [2]), {"a": 3}))
        load_result(dump_result([1]))
        unwanted = {"asyncio", "cloudpickle", "multiprocessing", "concurrent.futures", "traceback", "logging"}
        print(sorted(unwanted & set(sys.modules)))
        """
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_arrays_of_the_standard_library_travel(peer: Peer) -> None:
    values = array.array("d", [1.0, 2.0])
    assert peer.call(lambda a: a, values) == values
