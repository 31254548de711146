"""Test classes that name a loop of asyncio's, replaced by one class on the loop under test.

CPython writes such tests as a mixin and one class for each selector, whose `create_event_loop` or `new_loop`
names the loop. From each of these modules one class is derived, with that method replaced; the classes that
name another loop are left out, for they would test that other loop.
"""

import unittest
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .loops import LoopFactory


@dataclass(frozen=True)
class Replacement:
    """The class to derive from, the method that names the loop, and the derived class's name."""

    source: str
    method: str
    name: str


CPYTHON_REPLACEMENTS = {
    "test_events": Replacement("SelectEventLoopTests", "create_event_loop", "EventLoopTests"),
    "test_sock_lowlevel": Replacement("SelectEventLoopTests", "create_event_loop", "SocketTests"),
    "test_sendfile": Replacement("SelectEventLoopTests", "create_event_loop", "SendfileTests"),
    "test_server": Replacement("SelectorStartServerTests", "new_loop", "StartServerTests"),
    "test_buffered_proto": Replacement("BufferedProtocolSelectorTests", "new_loop", "BufferedProtocolTests"),
    "test_sslproto": Replacement("SelectorStartTLSTests", "new_loop", "StartTLSTests"),
}


def replace_classes(module: ModuleType, replacement: Replacement, factory: LoopFactory) -> None:
    """Put the class on the loop under test into `module`, and take out those that name another loop."""
    source: Any = getattr(module, replacement.source)
    derived = type(
        replacement.name,
        (source,),
        {replacement.method: lambda self: factory(), "__module__": module.__name__},
    )
    for name, value in list(vars(module).items()):
        is_case = isinstance(value, type) and issubclass(value, unittest.TestCase)
        if is_case and replacement.method in vars(value):
            delattr(module, name)
    setattr(module, replacement.name, derived)
