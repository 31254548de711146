"""What a program forgets to close warns as in the standard library, and is closed all the same."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import Awaitable, Callable

import motet
import pytest

Forget = Callable[[socket.socket], Awaitable[object]]

pytestmark = pytest.mark.thread_unsafe(reason="records warnings, and counts descriptors")


async def transport(here: socket.socket) -> object:
    return await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)


async def paused_transport(here: socket.socket) -> object:
    made, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
    made.pause_reading()
    return made


async def stream_writer(here: socket.socket) -> object:
    return await asyncio.open_connection(sock=here)


async def server(here: socket.socket) -> object:
    here.close()
    return await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def nothing(here: socket.socket) -> object:
    here.close()
    return None


def warned(make_loop: Callable[[], asyncio.AbstractEventLoop], forget: Forget, close: bool) -> set[str]:
    """How the warnings begin when a loop is given up with what `forget` has made."""
    gc.collect()
    here, there = socket.socketpair()
    with there, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = make_loop()
        loop.run_until_complete(forget(here))
        del here
        loop.run_until_complete(loop.shutdown_default_executor())
        if close:
            loop.close()
        del loop
        gc.collect()
        for warning in caught:
            assert warning.category is ResourceWarning
    begins = {" ".join(str(warning.message).split()[:2]) for warning in caught}
    if "unclosed transport" in begins:
        # Whether its socket is found too depends on whom the collector meets first.
        begins.discard("unclosed <socket.socket")
    return begins


@pytest.mark.parametrize("close", [True, False], ids=["closed-loop", "forgotten-loop"])
@pytest.mark.parametrize("forget", [transport, paused_transport, stream_writer, server, nothing])
def test_the_same_warnings(forget: Forget, close: bool) -> None:
    motet.run(asyncio.sleep(0))
    before = os.listdir("/proc/self/fd")
    expected = warned(asyncio.new_event_loop, forget, close)
    assert warned(motet.new_event_loop, forget, close) == expected
    assert os.listdir("/proc/self/fd") == before
