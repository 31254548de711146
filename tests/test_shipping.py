"""Functions, arguments and results between a program and its workers."""

from __future__ import annotations

import array
import functools
import os
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import RunProgram
from motet._executor import shipping
from motet._executor.errors import MotetError, NotShippable
from motet._executor.functions import FunctionTable
from motet._executor.shipping import dump_call, dump_result, load_call, load_result
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
