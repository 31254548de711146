"""Where a mapping's chunks are worked on: an executor, and the form in which the function goes there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import errors
from .calls import Options
from .chunk_sizes import PATIENCE, TARGET
from .chunks import Call, Task, calls_of
from .culprits import name_of
from .executor import Executor
from .pools import Loan, borrow, give_back
from .processes import ProcessWorkers
from .shipping import dump_call

if TYPE_CHECKING:
    from .executor import Place
    from .mapping import Plan
    from .trial import Trial

# What says that one item cannot be sent; others can.
REFUSALS = (errors.NotShippable, errors.ArgumentTooLarge, errors.ArenaFull)


class Workplace:
    """An executor that works on chunks, or on single items if these have a time limit."""

    def __init__(self, plan: Plan, on: Place) -> None:
        """Raises `NotShippable` for a function that cannot be sent there."""
        self.alone = plan.timeout is not None
        self._several = len(plan.iterables) > 1
        self._function = plan.function
        self._name = name_of(plan.function)
        self._options = Options(plan.timeout, plan.retries, None if self.alone else self._name)
        self._loan: Loan | None = None
        if plan.initializer is None:
            self._loan = borrow(on, plan.workers)
            self._executor = self._loan.executor
        else:
            self._executor = Executor(on, plan.workers, initializer=plan.initializer, initargs=plan.initargs)
        budget = PATIENCE * TARGET if plan.chunk is None else 0.0
        task = Task(self._several, plan.on_error, plan.retries, budget)
        try:
            self._call_of = (
                self._alone if self.alone else calls_of(plan.function, task, self._executor._workers.ships)
            )
        except BaseException:
            self.close(True)
            raise

    def send(self, items: list[Any], trial: Trial | None = None) -> Any:
        """Have a worker call the function with the items; the trial may measure that.

        Raises one of `REFUSALS` if they cannot be sent.
        """
        function, arguments = self._call_of(items)
        workers = self._executor._workers
        submit = partial(trial.submit, workers) if trial and isinstance(workers, ProcessWorkers) else None
        future = self._executor._submit(self._options, function, arguments, {}, submit)
        if future.done():
            self._raise_refusal(future, items)
        return future

    def _alone(self, items: list[Any]) -> Call:
        (item,) = items
        return self._function, item if self._several else (item,)

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
