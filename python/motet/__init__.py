"""motet: one Rust runtime under every way a Python program does many things at once.

>>> import motet
>>> async def main() -> str:
...     return "done"
>>> motet.run(main())
'done'
"""

from ._loop import EventLoop, new_event_loop
from ._motet import Handle, SocketTransport, TimerHandle, __version__
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
    "EventLoop",
    "Handle",
    "Server",
    "SocketTransport",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "TimerHandle",
    "__version__",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "run",
    "start_server",
    "start_unix_server",
]
