"""motet: one Rust runtime under every way a Python program does many things at once.

>>> import motet
>>> async def main() -> str:
...     return "done"
>>> motet.run(main())
'done'
"""

from ._files import (
    AsyncBinaryFile,
    AsyncFile,
    AsyncTextFile,
    read_bytes,
    read_text,
    write_bytes,
    write_text,
)
from ._files import open_file as open
from ._loop import EventLoop, new_event_loop
from ._motet import (
    DatagramTransport,
    Future,
    Handle,
    SocketTransport,
    Task,
    TimerHandle,
    __version__,
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
