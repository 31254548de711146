"""motet: one Rust runtime under every way a Python program does many things at once.

>>> import motet
>>> async def main() -> str:
...     return "done"
>>> motet.run(main())
'done'
"""

from . import _exit

__all__ = [
    "ArenaFull",
    "ArgumentTooLarge",
    "AsyncBinaryFile",
    "AsyncFile",
    "AsyncTextFile",
    "Barrier",
    "BrokenBarrier",
    "CallFuture",
    "CallTimeout",
    "Cancelled",
    "Channel",
    "Closed",
    "Condition",
    "DatagramTransport",
    "Empty",
    "Event",
    "EventLoop",
    "Executor",
    "Full",
    "Future",
    "Handle",
    "InitializerFailed",
    "InternalError",
    "Lock",
    "MotetError",
    "NotShippable",
    "RLock",
    "RemoteError",
    "Scope",
    "Selected",
    "Semaphore",
    "Server",
    "SocketTransport",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TimerHandle",
    "Wait",
    "WorkerDied",
    "WouldBlock",
    "__version__",
    "after",
    "amap",
    "aselect",
    "asleep",
    "checkpoint",
    "empty",
    "empty_like",
    "map",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "read_bytes",
    "read_text",
    "run",
    "select",
    "set_arena_limit",
    "sleep",
    "start_server",
    "start_unix_server",
    "task_factory",
    "write_bytes",
    "write_text",
]

# The crates' version, which the compiled module has as well; but that one imports asyncio.
__version__ = "0.1.0"

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from . import green as green
    from ._asyncio_classes import DatagramTransport, Future, SocketTransport, Task, task_factory
    from ._errors import InternalError, MotetError
    from ._executor.arrays import empty, empty_like, set_arena_limit
    from ._executor.errors import (
        ArenaFull,
        ArgumentTooLarge,
        CallTimeout,
        InitializerFailed,
        NotShippable,
        RemoteError,
        WorkerDied,
    )
    from ._executor.executor import Executor
    from ._executor.futures import CallFuture
    from ._executor.mapping import amap, map
    from ._files import (
        AsyncBinaryFile,
        AsyncFile,
        AsyncTextFile,
        open,
        read_bytes,
        read_text,
        write_bytes,
        write_text,
    )
    from ._loop import EventLoop, new_event_loop
    from ._motet import Handle, TimerHandle, Wait
    from ._run import run
    from ._scopes.current import checkpoint
    from ._scopes.scope import Scope
    from ._servers import Server
    from ._streams import (
        StreamReader,
        StreamReaderProtocol,
        StreamWriter,
        open_connection,
        open_unix_connection,
        start_server,
        start_unix_server,
    )
    from ._waits.channel import Channel
    from ._waits.condition import Condition
    from ._waits.errors import BrokenBarrier, Cancelled, Closed, Empty, Full, WouldBlock
    from ._waits.locks import Barrier, Event, Lock, RLock, Semaphore
    from ._waits.selecting import Selected, after, aselect, asleep, select, sleep
else:
    # Where names come from once they are asked for: `motet run` starts programs without loading asyncio.
    _HOMES = {
        "ArenaFull": "_executor.errors",
        "ArgumentTooLarge": "_executor.errors",
        "AsyncBinaryFile": "_files",
        "AsyncFile": "_files",
        "AsyncTextFile": "_files",
        "Barrier": "_waits.locks",
        "BrokenBarrier": "_waits.errors",
        "CallFuture": "_executor.futures",
        "CallTimeout": "_executor.errors",
        "Cancelled": "_waits.errors",
        "Channel": "_waits.channel",
        "Closed": "_waits.errors",
        "Condition": "_waits.condition",
        "DatagramTransport": "_asyncio_classes",
        "Empty": "_waits.errors",
        "Event": "_waits.locks",
        "EventLoop": "_loop",
        "Executor": "_executor.executor",
        "Full": "_waits.errors",
        "Future": "_asyncio_classes",
        "Handle": "_motet",
        "InitializerFailed": "_executor.errors",
        "InternalError": "_errors",
        "Lock": "_waits.locks",
        "MotetError": "_errors",
        "NotShippable": "_executor.errors",
        "RLock": "_waits.locks",
        "RemoteError": "_executor.errors",
        "Scope": "_scopes.scope",
        "Selected": "_waits.selecting",
        "Semaphore": "_waits.locks",
        "Server": "_servers",
        "SocketTransport": "_asyncio_classes",
        "StreamReader": "_streams",
        "StreamReaderProtocol": "_streams",
        "StreamWriter": "_streams",
        "Task": "_asyncio_classes",
        "TimerHandle": "_motet",
        "Wait": "_motet",
        "WorkerDied": "_executor.errors",
        "WouldBlock": "_waits.errors",
        "after": "_waits.selecting",
        "amap": "_executor.mapping",
        "aselect": "_waits.selecting",
        "asleep": "_waits.selecting",
        "checkpoint": "_scopes.current",
        "empty": "_executor.arrays",
        "empty_like": "_executor.arrays",
        "map": "_executor.mapping",
        "new_event_loop": "_loop",
        "open": "_files",
        "open_connection": "_streams",
        "open_unix_connection": "_streams",
        "read_bytes": "_files",
        "read_text": "_files",
        "run": "_run",
        "select": "_waits.selecting",
        "set_arena_limit": "_executor.arrays",
        "sleep": "_waits.selecting",
        "start_server": "_streams",
        "start_unix_server": "_streams",
        "task_factory": "_asyncio_classes",
        "write_bytes": "_files",
        "write_text": "_files",
    }

    def __getattr__(name: str) -> object:
        if name == "green":
            return _exit.load("motet.green")
        return _exit.load_attribute(__name__, _HOMES, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
