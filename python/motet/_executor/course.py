"""One mapping under way: what both kinds of iteration do with workers, failures and the bar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from itertools import islice
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from . import errors, progress
from .chunk_sizes import PATIENCE, TARGET, ChunkSizer, FixedSize
from .chunks import Task, carrying, dump_function, run_chunk, run_shipped
from .culprits import name_of
from .executor import Executor
from .flight import Chunk, Flight
from .pools import Loan, borrow, give_back
from .shipping import dump_call

if TYPE_CHECKING:
    from .mapping import Plan

# Chunks that each worker may have: one that it runs, others that wait for it or for their consumer.
CHUNKS_AHEAD = 4
# Items for each call of an asynchronous function, so that a slow one does not stop the others at once.
ITEMS_AHEAD = 2
# A function of more bytes goes to each worker once, a smaller one with each chunk, which costs less.
SMALL = 2048

# What says that one item cannot be sent; others can.
REFUSALS = (errors.NotShippable, errors.ArgumentTooLarge, errors.ArenaFull)


class Source:
    """The items, and how they ended."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.ended = False
        self.error: Exception | None = None

    def take(self, count: int) -> list[Any]:
        """So many items; fewer at the end only."""
        items: list[Any] = []
        try:
            # What came before an exception stays in the list.
            items.extend(islice(self._items, count))
            self.ended = len(items) < count
        except Exception as error:
            self.ended = True
            self.error = error
        return items


class Course:
    """A mapping's flight, and what becomes of its chunks."""

    def __init__(self, plan: Plan, send: Callable[[list[Any]], Any], alone: bool) -> None:
        ahead = ITEMS_AHEAD if plan.is_async else CHUNKS_AHEAD
        chunk = 1 if alone else plan.chunk
        self.sizer: ChunkSizer | FixedSize = ChunkSizer() if chunk is None else FixedSize(chunk)
        self.flight = Flight(
            send,
            ordered=plan.ordered,
            buffer=plan.buffer,
            ahead=ahead * plan.workers,
            sizer=self.sizer,
            refusals=REFUSALS,
        )
        self._plan = plan
        self._alone = alone
        self._failures = 0
        total = progress.total_of(plan.iterables) if plan.progress else None
        self._progress = progress.show(total, plan.name) if plan.progress else progress.Silence()

    def settle(self, chunk: Chunk) -> tuple[list[Any], BaseException | None]:
        """What a chunk that has arrived gives, and the exception that ends the mapping."""
        if chunk.problem is not None:
            return self._lose(chunk, chunk.problem)
        try:
            answer = chunk.future.result()
        except asyncio.CancelledError as error:
            # Of the call's task, not of the one that waits.
            lost: BaseException = CancelledError()
            lost.__cause__ = error
        except BaseException as error:
            lost = error
        else:
            if not self._alone:
                return self._unpack(chunk, answer)
            self.flight.settle(chunk, 1, None)
            self._progress.advance(1, self._failures)
            return [answer], None
        return self._lose(chunk, lost)

    def _unpack(self, chunk: Chunk, outcome: Any) -> tuple[list[Any], BaseException | None]:
        results: list[Any] = outcome.results
        done: int = outcome.done
        ending: BaseException | None = None
        for place, failure in outcome.failures:
            self._failures += 1
            _note(failure.error, self._plan, chunk, place)
            if place == done:
                ending = failure.error
            elif self._plan.on_error == "return":
                results[place] = failure.error
        self.flight.settle(chunk, done, outcome.seconds)
        self._progress.advance(done, self._failures)
        return results, ending

    def _lose(self, chunk: Chunk, error: BaseException) -> tuple[list[Any], BaseException | None]:
        """All items of a chunk have failed of one thing."""
        count = len(chunk.items)
        self.flight.settle(chunk, count, None)
        _note(error, self._plan, chunk, 0 if count == 1 else None)
        self._failures += count
        if self._plan.on_error == "raise" or self._concerns_all(error):
            return [], error
        self._progress.advance(count, self._failures)
        return ([error] * count if self._plan.on_error == "return" else []), None

    def _concerns_all(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return True
        if isinstance(error, BrokenExecutor):
            # Asked for late: it takes long to import.
            return not isinstance(error, errors.WorkerDied)
        return isinstance(error, CancelledError) and not self._plan.is_async

    def close(self) -> bool:
        """Cancel what is in flight; whether nothing was."""
        flying = [chunk.future for chunk in self.flight.flying.values() if chunk.future is not None]
        for future in flying:
            _cancel(future)
        self._progress.close()
        return all(future.done() for future in flying)


class ExecutorWorkers:
    """A mapping's executor."""

    def __init__(self, plan: Plan) -> None:
        self.alone = plan.timeout is not None
        several = len(plan.iterables) > 1
        self._several = several
        self._task = Task(
            several, plan.on_error, plan.retries, PATIENCE * TARGET if plan.chunk is None else 0.0
        )
        self._loan: Loan | None = None
        if plan.initializer is None:
            self._loan = borrow(plan.on, plan.workers)
            executor = self._loan.executor
        else:
            executor = Executor(plan.on, plan.workers, initializer=plan.initializer, initargs=plan.initargs)
        self._executor = executor
        self._runner: Callable[..., Any] = run_chunk
        self._function: Any = plan.function
        if not self.alone and executor._workers.ships:
            try:
                data = dump_function(plan.function)
            except BaseException:
                self.close(True)
                raise
            if len(data) <= SMALL:
                self._runner, self._function = run_shipped, data
            else:
                self._runner, self._function = carrying(data), None
        self._name = name_of(plan.function)
        name = None if self.alone else self._name
        self._submit = executor.options(timeout=plan.timeout, retries=plan.retries, name=name).submit

    def send(self, items: list[Any]) -> Any:
        """Have a worker call the function with the items."""
        if self.alone:
            item = items[0]
            future = self._submit(self._function, *(item if self._several else (item,)))
        elif self._function is None:
            future = self._submit(self._runner, items, self._task)
        else:
            future = self._submit(self._runner, self._function, items, self._task)
        if future.done():
            self._raise_refusal(future, items)
        return future

    def _raise_refusal(self, future: Any, items: list[Any]) -> None:
        """Raise why the items could not be sent. What a worker says has its traceback for a cause."""
        error = None if future.cancelled() else future.exception()
        if not isinstance(error, REFUSALS) or isinstance(error.__cause__, errors.RemoteTraceback):
            return
        if len(items) == 1 and not self.alone:
            # Named as the user's function has it.
            dump_call(items[0] if self._several else (items[0],), {}, None, self._name)
        raise error

    def close(self, clean: bool) -> None:
        """No more will be sent. `clean`: nothing is in flight."""
        if self._loan is not None and clean:
            give_back(self._loan)
        else:
            self._executor.shutdown(wait=False, cancel_futures=not clean)


def _cancel(future: Any) -> None:
    try:
        # A call that runs as well, if its workers can.
        future.cancel(kill=True)
    except TypeError:
        future.cancel()


_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def _note(error: BaseException, plan: Plan, chunk: Chunk, place: int | None) -> None:
    """Say in an exception whose it is. `place` is that of the item in the chunk, None if any may be meant."""
    if place is None:
        last = chunk.start + len(chunk.items) - 1
        error.add_note(f"{plan.name}: one of the items {chunk.start} to {last}")
        return
    item = chunk.items[place]
    several = len(plan.iterables) > 1
    shown = ", ".join(_show(part) for part in (item if several else (item,)))
    error.add_note(f"{plan.name}: item {chunk.start + place} (argument{'s' if several else ''} {shown})")


def _show(value: object) -> str:
    try:
        return _repr.repr(value)
    except Exception:
        return f"<{type(value).__qualname__}>"
