"""Exceptions of workers, as they reach the program that called."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from conftest import RunProgram
from motet._executor import errors
from motet._executor.errors import CallTimeout, MotetError, NotShippable, RemoteError, RemoteTraceback
from motet._executor.travelling_errors import dump_exception, load_exception
from shipping_peer import Peer


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


class Required(Exception):
    """The classic: what it is made from is not what it keeps."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


class Slotted(OSError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(111, f"refused by {host}", host)
        self.port = port


class OwnReduce(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)
        self.sides = a, b

    def __reduce__(self) -> Any:
        return OwnReduce, self.sides


class UnfitReduce(Exception):
    def __reduce__(self) -> Any:
        return UnfitReduce.made_again, ()

    @staticmethod
    def made_again() -> object:
        raise ValueError("never again")


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> Any:
        raise RuntimeError("no reduce")


class Code(SystemExit):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def travelled(error: BaseException) -> BaseException:
    return load_exception(dump_exception(raised(error)))


def test_the_traceback_of_the_worker_is_the_cause(peer: Peer) -> None:
    def deep() -> None:
        raise ValueError("deep down")

    def outer() -> None:
        try:
            deep()
        except ValueError as error:
            error.add_note("a note")
            raise KeyError("outside") from error

    with pytest.raises(KeyError) as caught:
        peer.call(outer)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    for text in ("deep down", "a note", "direct cause", "KeyError: 'outside'", "in deep", "raise ValueError"):
        assert text in str(cause)
    assert str(cause) == "\n" + cause.text
    # Only the user's own frames.
    assert "_executor" not in cause.text
    assert "deep down" in "".join(traceback.format_exception(caught.value))


def test_notes_survive() -> None:
    error = ValueError("x")
    error.add_note("one")
    error.add_note("two")
    assert travelled(error).__notes__ == ["one", "two"]
    own = OwnReduce(1, 2)
    own.add_note("three")
    assert travelled(own).__notes__ == ["three"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1), KeyError("k"), StopIteration(5), OSError(2, "none", "file"), SystemExit(3),
        FileNotFoundError(2, "none"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), KeyboardInterrupt(),
        asyncio.CancelledError("c"),
        ImportError("no", name="n", path="p"), SyntaxError("bad", ("f", 1, 2, "text", 1, 3)), MemoryError(),
        NotShippable("n"), CallTimeout("late"), RemoteError("a.B", "m", ("1",), "why"), GeneratorExit(),
        AttributeError("a", name="n"), NameError("n", name="m"), RecursionError("deep"), MotetError("m"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_exceptions_of_the_interpreter_and_of_motet_return_whole(error: BaseException) -> None:
    found = travelled(error)
    assert type(found) is type(error)
    assert found.args == error.args
    assert str(found) == str(error)
    for name in ("value", "code", "errno", "strerror", "filename", "name", "path", "lineno", "start"):
        assert getattr(found, name, None) == getattr(error, name, None)


def test_exceptions_whose_init_wants_more_return_as_themselves() -> None:
    found = travelled(Required(7, detail="d"))
    assert isinstance(found, Required)
    assert (str(found), found.code, found.detail) == ("code 7", 7, "d")
    # Pickle alone loses it.
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Required(7, detail="d")))
    refused = travelled(Slotted("host", 80))
    assert isinstance(refused, Slotted)
    assert (refused.errno, refused.filename, refused.port) == (111, "host", 80)
    assert "refused by host" in str(refused)
    leaving = travelled(Code(3, "r"))
    assert isinstance(leaving, Code)
    assert (leaving.code, leaving.reason) == (3, "r")
    own = travelled(OwnReduce(1, 2))
    assert isinstance(own, OwnReduce)
    assert own.sides == (1, 2)


def test_exceptions_that_cannot_be_sent_are_told_about() -> None:
    found = travelled(ValueError("with a lock", threading.Lock()))
    assert isinstance(found, RemoteError)
    assert found.type_name == "ValueError"
    assert "with a lock" in found.message
    assert found.arguments[0] == "'with a lock'"
    assert "lock" in found.arguments[1]
    assert "cannot pickle" in found.reason
    assert "ValueError: ('with a lock'" in str(found.__cause__)


def test_exceptions_that_cannot_be_made_again_are_told_about() -> None:
    found = travelled(UnfitReduce("lost"))
    assert isinstance(found, RemoteError)
    assert found.type_name.endswith("UnfitReduce")
    assert found.message == "lost"
    assert "never again" in found.reason


def test_hostile_exceptions_are_survived() -> None:
    found = travelled(Hostile("x"))
    assert isinstance(found, RemoteError)
    assert "Hostile" in found.type_name
    assert "RuntimeError" in found.message
    hostile_argument = travelled(ValueError(Hostile("x")))
    assert isinstance(hostile_argument, RemoteError)
    with_notes = ValueError("x")
    with_notes.__notes__ = 5  # type: ignore[assignment]
    assert isinstance(travelled(with_notes), ValueError)


def test_an_exception_never_raised_travels() -> None:
    assert type(load_exception(dump_exception(ValueError("x")))) is ValueError


def test_groups_return_with_what_can_be_sent() -> None:
    inner = ExceptionGroup("inner", [Required(1, detail="d"), ValueError(threading.Lock())])
    group = ExceptionGroup("outer", [KeyError("k"), inner])
    group.add_note("noted")
    found = travelled(group)
    assert isinstance(found, ExceptionGroup)
    assert found.message == "outer"
    assert found.__notes__ == ["noted"]
    first, second = found.exceptions
    assert type(first) is KeyError
    assert isinstance(second, ExceptionGroup)
    assert [type(e) for e in second.exceptions] == [Required, RemoteError]
    assert "Required: code 1" in str(found.__cause__)
    whole = travelled(BaseExceptionGroup("all", [KeyboardInterrupt(), ValueError("v")]))
    assert [type(e) for e in whole.exceptions] == [KeyboardInterrupt, ValueError]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
def test_a_call_may_raise_what_ends_programs(peer: Peer, kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind(4)

    with pytest.raises(kind):
        peer.call(leave)
    assert peer.call(int, "5") == 5


def test_classes_of_the_worker_and_of_closures(peer: Peer) -> None:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a)
            self.b = b

    def fail() -> None:
        raise Local(1, 2)

    def fail_anew() -> None:
        class OfWorker(ValueError):
            pass

        raise OfWorker("made there")

    with pytest.raises(Local) as caught:
        peer.call(fail)
    assert caught.value.b == 2
    with pytest.raises(ValueError, match="made there") as other:
        peer.call(fail_anew)
    assert type(other.value).__name__ == "OfWorker"


def test_a_worker_survives_what_cannot_be_loaded(peer: Peer) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return eval, ("1/0",)

    with pytest.raises(ZeroDivisionError):
        peer.call(print, Trap())
    assert peer.call(int, "5") == 5


def test_long_texts_are_cut_and_deep_chains_told() -> None:
    found = travelled(ValueError(threading.Lock(), "x" * 1_000_000))
    assert isinstance(found, RemoteError)
    assert len(found.message) < 20_000

    def nest(n: int) -> None:
        if n == 0:
            raise ValueError("bottom")
        try:
            nest(n - 1)
        except ValueError as error:
            raise ValueError(n) from error

    with pytest.raises(ValueError, match="20") as caught:
        nest(20)
    assert "bottom" in str(load_exception(dump_exception(caught.value)).__cause__)


@pytest.mark.thread_unsafe(reason="sets the recursion limit's use to its end")
def test_too_much_recursion_travels(peer: Peer) -> None:
    def for_ever() -> None:
        for_ever()

    with pytest.raises(RecursionError):
        peer.call(for_ever)
    assert peer.call(int, "5") == 5


def test_worker_died_is_a_broken_pool() -> None:
    assert issubclass(errors.WorkerDied, BrokenProcessPool)
    assert issubclass(errors.WorkerDied, MotetError)
    assert errors.WorkerDied is errors.WorkerDied
    assert type(pickle.loads(pickle.dumps(errors.WorkerDied("x")))) is errors.WorkerDied
    with pytest.raises(AttributeError):
        errors.NoSuchError  # type: ignore[attr-defined]  # noqa: B018


def test_errors_load_nothing_large(run_program: RunProgram) -> None:
    done = run_program(
        """
        import sys
        from motet._executor import errors
        print(sorted({"multiprocessing", "concurrent.futures", "asyncio", "logging"} & set(sys.modules)))
        errors.WorkerDied
        """
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_exception_does_not_keep_frames() -> None:
    found = travelled(ValueError("x"))
    assert found.__traceback__ is None
    gc.collect()
    assert os.path.basename(__file__) in str(found.__cause__)
    assert sys.exception() is None
