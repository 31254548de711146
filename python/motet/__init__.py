"""motet: one Rust runtime under every way a Python program does many things at once.

>>> import motet
>>> async def main() -> str:
...     return "done"
>>> motet.run(main())
'done'
"""

import sys

from . import _exit

__all__ = [
    "AsyncBinaryFile",
    "AsyncFile",
    "AsyncTextFile",
    "DatagramTransport",
    "EventLoop",
    "Future",
    "Handle",
    "Server",
    "SocketTransport",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "Task",
    "TimerHandle",
    "__version__",
    "amap",
    "map",
    "new_event_loop",
    "open",
    "open_connection",
    "open_unix_connection",
    "read_bytes",
    "read_text",
    "run",
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
    from ._motet import (
        DatagramTransport,
        Future,
        Handle,
        SocketTransport,
        Task,
        TimerHandle,
        task_factory,
    )
    from ._run import run
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
else:
    # Where names come from once they are asked for: `motet run` starts programs without loading asyncio.
    _HOMES = {
        "AsyncBinaryFile": "_files",
        "AsyncFile": "_files",
        "AsyncTextFile": "_files",
        "DatagramTransport": "_motet",
        "EventLoop": "_loop",
        "Future": "_motet",
        "Handle": "_motet",
        "Server": "_servers",
        "SocketTransport": "_motet",
        "StreamReader": "_streams",
        "StreamReaderProtocol": "_streams",
        "StreamWriter": "_streams",
        "Task": "_motet",
        "TimerHandle": "_motet",
        "amap": "_executor.mapping",
        "map": "_executor.mapping",
        "new_event_loop": "_loop",
        "open": "_files",
        "open_connection": "_streams",
        "open_unix_connection": "_streams",
        "read_bytes": "_files",
        "read_text": "_files",
        "run": "_run",
        "start_server": "_streams",
        "start_unix_server": "_streams",
        "task_factory": "_motet",
        "write_bytes": "_files",
        "write_text": "_files",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            problem = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(problem, name=name, obj=sys.modules[__name__])
        found = globals()[name] = getattr(_exit.load(f"{__name__}.{_HOMES[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
