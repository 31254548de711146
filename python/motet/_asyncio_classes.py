"""The core's classes that derive from asyncio's. They are made as this is imported, and so once."""

from . import _motet

__all__ = ["DatagramTransport", "Future", "SocketTransport", "Task", "task_factory"]

_motet._make_asyncio_classes()

from ._motet import DatagramTransport, Future, SocketTransport, Task, task_factory  # noqa: E402
