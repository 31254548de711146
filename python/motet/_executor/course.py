"""One mapping under way: what both kinds of iteration do with workers, failures and the bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from itertools import islice
from reprlib import Repr
from typing import TYPE_CHECKING, Any

from . import errors, progress
from .auto_workers import has_gil
from .chunk_sizes import ChunkSizer, FixedSize
from .flight import Chunk, Flight
from .trial import Trial
from .workplaces import REFUSALS, Workplace

if TYPE_CHECKING:
    from .executor import Place
    from .mapping import Plan

# Chunks that each worker may have: one that it runs, others that wait for it or for their consumer.
CHUNKS_AHEAD = 4
# Items for each call of an asynchronous function, so that a slow one does not stop the others at once.
ITEMS_AHEAD = 2


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
        except BaseException as error:
            return self._lose(chunk, _not_of_this_task(error))
        if not self._alone:
            return self._unpack(chunk, answer)
        self.flight.settle(chunk, 1, None)
        self._progress.advance(1, self._failures)
        return [answer], None

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
    """A mapping's workers. With "auto" the first chunks are measured, and later ones may go to threads."""

    def __init__(self, plan: Plan) -> None:
        self.alone = plan.timeout is not None
        self._plan = plan
        self._trial: Trial | None = None
        self._places: list[Workplace] = []
        on = plan.on
        if on == "auto":
            if plan.initializer is None and not has_gil():
                on = "threads"
            else:
                on = "processes"
                self._trial = None if plan.initializer is not None else Trial(plan.workers)
        try:
            self._place = self._move(on)
        except errors.NotShippable:
            if self._trial is None:
                raise
            self._place = self._move("threads")

    def send(self, items: list[Any]) -> Any:
        """Have a worker call the function with the items. Raises one of `REFUSALS` if they cannot be sent."""
        trial = self._trial
        if trial is None:
            return self._place.send(items)
        if trial.verdict is None:
            try:
                return self._place.send(items, trial)
            except errors.NotShippable:
                self._place = self._move("threads")
        elif trial.verdict.place == "threads":
            self._place = self._move("threads")
        self._trial = None
        return self._place.send(items)

    def _move(self, on: Place) -> Workplace:
        place = Workplace(self._plan, on)
        self._places.append(place)
        if on == "threads":
            self._trial = None
        return place

    def close(self, clean: bool) -> None:
        """No more will be sent. `clean`: nothing is in flight."""
        for place in self._places:
            place.close(clean)


def _not_of_this_task(error: BaseException) -> BaseException:
    """The same, unless it is the cancellation of a call's task, which means another where it is raised."""
    # It takes long to import, and few mappings fail.
    from asyncio import CancelledError as TaskCancelledError

    if not isinstance(error, TaskCancelledError):
        return error
    cancelled = CancelledError()
    cancelled.__cause__ = error
    return cancelled


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
