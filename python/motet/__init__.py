"""motet: one Rust runtime under every way a Python program does many things at once.

>>> import motet
>>> async def main() -> str:
...     return "done"
>>> motet.run(main())
'done'
"""

from ._loop import EventLoop, new_event_loop
from ._motet import Future, Handle, SocketTransport, Task, TimerHandle, __version__, task_factory
from ._run import run
from ._servers import Server

__all__ = [
    "EventLoop",
    "Future",
    "Handle",
    "Server",
    "SocketTransport",
    "Task",
    "TimerHandle",
    "__version__",
    "new_event_loop",
    "run",
    "task_factory",
]
