"""What goes wrong between a program and its workers, as exceptions.

Some are made when they are first asked for: the homes of their base classes load `logging` and
`multiprocessing`, which workers, and programs that lose none, never need.
"""

import sys

# The core of pickle, which is quick to import.
from _pickle import PicklingError

from motet._errors import InternalError, MotetError

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from concurrent.futures import BrokenExecutor
    from concurrent.futures.process import BrokenProcessPool
    from concurrent.futures.thread import BrokenThreadPool

__all__ = [
    "ArenaFull",
    "ArgumentTooLarge",
    "CallTimeout",
    "InitializerFailed",
    "InternalError",
    "MotetError",
    "NotShippable",
    "RemoteError",
    "RemoteTraceback",
    "ThreadInitializerFailed",
    "WorkerDied",
]


class NotShippable(MotetError, PicklingError):
    """A function, argument or result that cannot be sent to another process; the message names what in it."""


class CallTimeout(MotetError, TimeoutError):
    """A call did not end in its time."""


class ArenaFull(MotetError, MemoryError):
    """The program holds all the memory that may be shared with workers; see `motet.set_arena_limit`."""


class ArgumentTooLarge(MotetError, ValueError):
    """An argument or result has more bytes than a worker can be sent."""


class RemoteTraceback(Exception):
    """The traceback of an exception in the process where it was raised: the `__cause__` of its copy here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


class RemoteError(MotetError):
    """Stands for an exception of a worker that could not be sent, or not be rebuilt here.

    `type_name` is its class's full name, `message` what `str()` made of it, `arguments` the `repr()` of each
    of its arguments, `reason` why it did not come itself. Its traceback is the `__cause__`.
    """

    def __init__(
        self, type_name: str, message: str = "", arguments: tuple[str, ...] = (), reason: str = ""
    ) -> None:
        super().__init__(type_name, message, arguments, reason)
        self.type_name = type_name
        self.message = message
        self.arguments = arguments
        self.reason = reason

    def __str__(self) -> str:
        said = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return f"{said} (the exception itself stayed in the worker: {self.reason})" if self.reason else said


def fresh(error: BaseException) -> BaseException:
    """The same exception once more, for another to raise: each that raises it adds to its traceback."""
    made = type(error)(*error.args)
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


if TYPE_CHECKING:

    class InitializerFailed(MotetError, BrokenExecutor):
        """A worker could not begin, since its initializer raised: its exception is the `__cause__`."""

    class ThreadInitializerFailed(InitializerFailed, BrokenThreadPool):
        """A worker thread could not begin, since its initializer raised: its exception is the `__cause__`."""

    class WorkerDied(MotetError, BrokenProcessPool):
        """The worker that ran a call died: killed, out of memory, or crashed in compiled code.

        `call` names the call, `exit_code` is the worker's (the negative number of a signal if one killed it),
        `largest_memory` the most that it had resident, in bytes (0: not known).
        """

        call: str
        exit_code: int
        largest_memory: int

else:

    def __getattr__(name: str) -> object:
        bases = (MotetError,)
        if name == "WorkerDied":
            from concurrent.futures.process import BrokenProcessPool as base

            doc = "The worker that ran a call died: killed, out of memory, or crashed in compiled code."
            members = {"call": "", "exit_code": 0, "largest_memory": 0}
        elif name == "InitializerFailed":
            from concurrent.futures import BrokenExecutor as base

            doc = "A worker could not begin, since its initializer raised: its exception is the `__cause__`."
            members = {}
        elif name == "ThreadInitializerFailed":
            from concurrent.futures.thread import BrokenThreadPool as base

            bases = (sys.modules[__name__].InitializerFailed,)
            doc = "A worker thread could not begin, since its initializer raised: that is the `__cause__`."
            members = {}
        else:
            problem = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(problem, name=name, obj=sys.modules[__name__])
        made = type(name, (*bases, base), {"__module__": __name__, "__doc__": doc, **members})
        # Threads that ask at once get one class.
        return globals().setdefault(name, made)
