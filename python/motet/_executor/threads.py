"""Workers that are threads of this process: starting them, and what they tell a program.

What happens for every call is in the core (`_motet.ThreadPool`).
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from concurrent.futures import _base
from typing import TYPE_CHECKING, Any, NamedTuple

from motet import _motet

from . import errors
from .calls import CallStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from .calls import Call
    from .futures import CallFuture


class Setup(NamedTuple):
    """What a worker thread does before its first call."""

    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()


class Crew:
    """The threads of a pool, as far as they are Python's: what the core asks for.

    It knows neither the pool nor `ThreadWorkers`: the threads keep the first alive, and nothing the second.
    """

    def __init__(self, setup: Setup, name: str) -> None:
        self.threads: set[threading.Thread] = set()
        self.watch: threading.Thread | None = None
        self.cause: BaseException | None = None
        self._setup = setup
        self._name = name
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def start_worker(self, pool: _motet.ThreadPool) -> BaseException | None:
        """Start one more worker.

        What raises has started none. What a signal's handler has raised when there was one is returned.
        """
        name = f"{self._name}_{next(self._numbers)}"
        # As a daemon, since the program's end waits for those that are at work, and not for abandoned ones.
        # Whoever takes what is in it decides whether there is a worker.
        turn = [self._target(pool)]
        thread = threading.Thread(target=_take_turn, args=(turn,), name=name, daemon=True)
        interruption = None
        with self._lock:
            self.threads = {other for other in self.threads if other.is_alive()}
            try:
                thread.start()
            except BaseException as error:
                if _taken(turn) is not None:
                    raise
                interruption = error
            self.threads.add(thread)
        return interruption

    def _target(self, pool: _motet.ThreadPool) -> Callable[[], None]:
        return pool.work

    def initialize(self) -> None:
        """What a worker does first, in its thread."""
        if self._setup.initializer is not None:
            self._setup.initializer(*self._setup.initargs)

    def start_watch(self, pool: _motet.ThreadPool) -> None:
        """Start the thread that looks after calls with a time limit."""
        thread = threading.Thread(target=pool.watch, name=f"{self._name}_watch", daemon=True)
        with self._lock:
            thread.start()
            self.watch = thread

    def interrupt(self, identity: int) -> None:
        """A thread is to raise `CallStopped`: have it run Python, if it waits. Threads need no help."""

    def abandon(self, identity: int) -> None:
        """Forget a thread whose call does not stop: nobody waits for its end any more."""
        with self._lock:
            self.threads = {thread for thread in self.threads if thread.ident != identity}

    def timeout_error(self, call: Call) -> errors.CallTimeout | None:
        """The error of a call whose time is up; none if it will be tried again."""
        timeout = call.options.timeout
        if timeout is None or call.attempts < call.options.retries:
            return None
        return errors.CallTimeout(f"{call} ran longer than {timeout:g} seconds")

    def initializer_failed(self, pool: _motet.ThreadPool, error: BaseException) -> None:
        """Break the pool, since a worker could not begin."""
        _base.LOGGER.critical("Exception in initializer:", exc_info=error)
        if self.cause is None:
            self.cause = error
        pool.break_()

    def broken_error(self) -> errors.ThreadInitializerFailed:
        """A new error for a call that cannot run."""
        error = errors.ThreadInitializerFailed("the initializer of a worker raised; no call can run")
        error.__cause__ = self.cause
        return error

    def alive(self) -> list[threading.Thread]:
        """The threads whose end is to be waited for; not the one that asks."""
        with self._lock:
            threads = [*self.threads, self.watch] if self.watch is not None else list(self.threads)
        here = threading.current_thread()
        return [thread for thread in threads if thread is not here and thread.is_alive()]


def _taken(turn: list[Callable[[], None]]) -> Callable[[], None] | None:
    try:
        return turn.pop()
    except IndexError:
        return None


def _take_turn(turn: list[Callable[[], None]]) -> None:
    work = _taken(turn)
    if work is not None:
        work()


class ThreadWorkers:
    """Up to `count` worker threads, which are started as they are needed.

    Calls run in the order of their submission; on free-threaded builds a worker prefers those that its own
    calls have submitted, and takes from other workers what waits there. A call that does not stop when its
    time is up, or it is cancelled with `kill=True`, cannot be ended: a second later its thread is abandoned
    and another one takes its place. What the call still does goes on, and nobody learns what it comes to.

    When nothing refers to this object any more, the threads end after the calls that they have. All methods
    may be called by any thread.
    """

    # Whether functions travel to the workers.
    ships = False

    def __init__(self, count: int, setup: Setup, name: str, crew: type[Crew] = Crew) -> None:
        """`name` is the beginning of each thread's name, `crew` what starts them.

        Raises:
            ValueError: `count` is less than 1.
        """
        self.count = count
        self.crew = crew(setup, name)
        self.pool = _motet.ThreadPool(self.crew, count, CallStopped)
        self._let_go: weakref.finalize[[], ThreadWorkers] | None = None
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        # Without a frame between the executor and the core.
        self.submit: Callable[
            [Callable[..., Any], tuple[Any, ...], dict[str, Any], Call | None], CallFuture[Any]
        ] = self.pool.submit
        self._let_go = weakref.finalize(self, self.pool.close)
        self._let_go.atexit = False

    @property
    def broken(self) -> BaseException | None:
        """Why no call can run."""
        return None if self.crew.cause is None else self.crew.broken_error()

    @property
    def threads(self) -> set[threading.Thread]:
        """The worker threads."""
        return self.crew.threads

    def close(self) -> None:
        """No more calls come: the workers end when all is done."""
        self.pool.close()

    def withdraw_all(self) -> list[CallFuture[Any]]:
        """Take back all calls that have not begun.

        Each future then waits for `_end_cancelled()` or `set_exception()`.
        """
        return self.pool.withdraw_all()

    def join(self) -> None:
        """Wait until all workers have ended, after `close()`.

        Not for abandoned ones, nor for the thread that waits, if it is a worker itself.
        """
        while threads := self.crew.alive():
            for thread in threads:
                # In between, it may be abandoned.
                thread.join(0.1)

    def kill(self, number: int, reason: str = "cancel") -> bool:
        """Have the call of this number stopped; whether it is going to be, or will not begin."""
        return self.pool._kill(number)

    def kill_all(self) -> None:
        """Have all calls stopped that run."""
        for number in self.pool.running():
            self.kill(number)

    def unfinished(self) -> int:
        """How many calls have not ended."""
        return self.pool.unfinished()

    def statistics(self) -> dict[str, Any]:
        """What `Executor.statistics` says of threads."""
        found = self.pool.statistics()
        names = {thread.ident: thread.name for thread in self.crew.threads.copy()}
        found["per_worker"] = [{"name": names.get(row["ident"], ""), **row} for row in found["per_worker"]]
        return found

    def resize(self, count: int) -> None:
        """Have up to `count` workers from now on; those that are too many end after their calls.

        Raises:
            ValueError: `count` is less than 1.
        """
        self.pool.resize(count)
        self.count = count

    def _after_fork(self) -> None:
        """In a forked child, begin anew: the calls and the threads are the parent's."""
        self.pool.forsake()
        if self._let_go is not None:
            self._let_go.detach()
        crew = self.crew
        self.crew = type(crew)(crew._setup, crew._name)
        self.pool = _motet.ThreadPool(self.crew, self.count, CallStopped)
        self._begin()


_all: weakref.WeakSet[ThreadWorkers] = weakref.WeakSet()


def _after_fork() -> None:
    for workers in list(_all):
        workers._after_fork()


os.register_at_fork(after_in_child=_after_fork)
