"""What a scope starts: a task, a thread, a green thread or a call in a worker process."""

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from .scope import Scope

Place: TypeAlias = Literal["task", "thread", "green", "process"]


class Child:
    """One child. `cancel` may be called from any thread, also when it has ended."""

    def __init__(self, scope: "Scope", name: str) -> None:
        self.scope = scope
        self.name = name

    def begin(self, call: Callable[[], Any]) -> None:
        """Start it. It tells its scope when it has ended."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Have it end. Those that wait by motet's means see their scope's token by themselves."""

    def run(self, call: Callable[[], Any]) -> None:
        """Call the function, and tell the scope how that has ended."""
        try:
            call()
        except BaseException as error:
            self.scope._ended(self, error)
        else:
            self.scope._ended(self, None)


class ThreadChild(Child):
    """A function in a thread."""

    def begin(self, call: Callable[[], Any]) -> None:
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self.run, call), name=self.name).start()


class GreenChild(Child):
    """A function in a green thread of this thread."""

    def begin(self, call: Callable[[], Any]) -> None:
        from motet import green

        thread = green.spawn(self.run, call)
        thread.name = self.name


class ProcessChild(Child):
    """A function in a worker process."""

    def begin(self, call: Callable[[], Any]) -> None:
        self.future = self.scope._executor().submit(call)
        self.future.add_done_callback(self._done)

    def cancel(self) -> None:
        self.future.cancel(kill=True)

    def _done(self, future: Any) -> None:
        if future.cancelled():
            self.scope._ended(self, None)
        else:
            self.scope._ended(self, future.exception())


KINDS: dict[str, type[Child]] = {"thread": ThreadChild, "green": GreenChild, "process": ProcessChild}


def is_coroutine_function(function: object) -> bool:
    """Whether calling it makes a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def name_of(function: object) -> str:
    """What a child is called that nobody has named."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", None) or repr(function)
