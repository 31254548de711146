"""Random sizes of writes, fragments, pauses and limits: the bytes that arrive are those that were written."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import motet
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = st.one_of(st.integers(0, 10), st.integers(0, 2000), st.integers(60_000, 400_000))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "writelines"]), SIZES),
        st.tuples(st.sampled_from(["rest", "pause", "resume"]), st.just(0)),
    ),
    max_size=25,
)


def pattern(begin: int, length: int) -> bytes:
    """Bytes that tell their place in the stream, for a period that is no power of two."""
    return bytes((begin + index) % 251 for index in range(min(length, 251))) * (length // 251 + 1)


class Receiver(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


class BufferedReceiver(asyncio.BufferedProtocol):
    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.received = bytearray()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


async def transfer(steps: list[tuple[str, int]], buffer: int, high: int, kernel: int) -> tuple[bytes, bytes]:
    """Carries out the steps on a connection of two transports; what was written and what arrived."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    for sock in (here, there):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel)
    sender, sending = await loop.create_unix_connection(Receiver, sock=here)
    receiver: Any
    receiving: Any
    receiver, receiving = await loop.create_unix_connection(
        (lambda: BufferedReceiver(buffer)) if buffer else Receiver, sock=there
    )
    sender.set_write_buffer_limits(high=high)
    written = bytearray()
    for step, size in steps:
        data = pattern(len(written), size)[:size]
        if step == "write":
            sender.write(data)
            written += data
        elif step == "writelines":
            third = size // 3
            sender.writelines(
                [data[:third], bytearray(data[third : 2 * third]), memoryview(data)[2 * third :]]
            )
            written += data
        elif step == "rest":
            await asyncio.sleep(0)
        elif step == "pause":
            receiver.pause_reading()
        else:
            receiver.resume_reading()
    sender.write_eof()
    receiver.resume_reading()
    await asyncio.wait_for(receiving.lost, 60)
    await asyncio.wait_for(sending.lost, 60)
    return bytes(written), bytes(receiving.received)


@settings(max_examples=60, deadline=None)
@given(
    STEPS,
    st.sampled_from([0, 0, 100, 5000, 300_000]),
    st.sampled_from([0, 1, 65_536]),
    st.sampled_from([2048, 200_000]),
)
def test_what_is_written_arrives(steps: list[tuple[str, int]], buffer: int, high: int, kernel: int) -> None:
    written, received = motet.run(transfer(steps, buffer, high, kernel))
    assert received == written
