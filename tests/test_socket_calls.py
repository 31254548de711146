"""The `sock_…` methods on streams: data, cancellation, several at once, reused numbers, wrong sockets."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any

import motet
import pytest
from conftest import MakeLoop

Body = Callable[[asyncio.AbstractEventLoop, socket.socket, socket.socket], Awaitable[Any]]


def with_pair(make_loop: Callable[[], asyncio.AbstractEventLoop], body: Body) -> Any:
    """Runs `body` with a loop and two connected sockets that do not block."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with here, there, closing(make_loop()) as loop:
        return loop.run_until_complete(asyncio.wait_for(body(loop, here, there), 30))


def test_receive_and_send(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        assert await loop.sock_recv(here, 0) == b""
        waiting = loop.create_task(loop.sock_recv(here, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(there, b"one")
        assert await waiting == b"one"
        await loop.sock_sendall(there, bytearray(b"two"))
        assert await loop.sock_recv(here, 100) == b"two"
        buffer = bytearray(10)
        await loop.sock_sendall(there, memoryview(b"three"))
        assert await loop.sock_recv_into(here, buffer) == 5
        assert buffer[:5] == b"three"
        there.close()
        assert await loop.sock_recv(here, 100) == b""

    with_pair(make_loop, body)


def test_more_than_the_system_takes_at_once(make_loop: MakeLoop) -> None:
    data = bytes(range(256)) * 20_000

    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> bytes:
        sending = loop.create_task(loop.sock_sendall(there, data))
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(here, 30_000)
        await sending
        return bytes(received)

    assert with_pair(make_loop, body) == data


def test_more_is_asked_for_than_is_read_at_once(make_loop: MakeLoop) -> None:
    """What the system holds is larger than the loop's own buffer, and smaller than the caller's limit."""

    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        waiting = loop.create_task(loop.sock_recv(here, 10))
        await asyncio.sleep(0.01)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        there.send(b"first")
        assert await waiting == b"first"
        sent = 0
        with suppress(BlockingIOError):
            while sent < 700_000:
                sent += there.send(bytes(100_000))
        assert sent > 300_000
        received = 0
        while received < sent:
            received += len(await loop.sock_recv(here, 1024 * 1024))

    with_pair(make_loop, body)


def test_data_that_comes_with_descriptors_is_read_to_its_end(make_loop: MakeLoop) -> None:
    """A read stops where descriptors were passed, though more data waits."""

    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> bytes:
        waiting = loop.create_task(loop.sock_recv(here, 100))
        await asyncio.sleep(0.01)
        there.send(b"begin ")
        received = await waiting
        socket.send_fds(there, [b"passed "], [there.fileno()])
        there.send(b"end")
        while not received.endswith(b"end"):
            received += await loop.sock_recv(here, 100)
        return received

    assert with_pair(make_loop, body) == b"begin passed end"


def test_the_end_right_behind_data_is_read(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        waiting = loop.create_task(loop.sock_recv(here, 100))
        await asyncio.sleep(0.01)
        there.send(b"last")
        there.close()
        assert await waiting == b"last"
        assert await loop.sock_recv(here, 100) == b""
        assert await loop.sock_recv(here, 100) == b""

    with_pair(make_loop, body)


def test_a_cancelled_receive_loses_nothing(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> bytes:
        received = b""
        for number in range(50):
            waiting = loop.create_task(loop.sock_recv(here, 100))
            await asyncio.sleep(0)
            if number % 2:
                # Sent and cancelled before the loop looks at its sockets.
                there.send(b"%d " % number)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                received += await waiting
        there.close()
        while part := await loop.sock_recv(here, 100):
            received += part
        return received

    assert with_pair(make_loop, body) == b"".join(b"%d " % number for number in range(1, 50, 2))


def test_several_receivers_are_served_in_order() -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> list[bytes]:
        waiting = [loop.create_task(loop.sock_recv(here, 2)) for _ in range(5)]
        await asyncio.sleep(0.01)
        waiting[1].cancel()
        there.send(b"aabbccdd")
        waiting.pop(1)
        return await asyncio.gather(*waiting)

    assert with_pair(motet.new_event_loop, body) == [b"aa", b"bb", b"cc", b"dd"]


def test_several_senders_do_not_mix() -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> bytes:
        sending = [
            loop.create_task(loop.sock_sendall(there, letter * 1_000_000)) for letter in (b"a", b"b", b"c")
        ]
        received = bytearray()
        while len(received) < 3_000_000:
            received += await loop.sock_recv(here, 65536)
        await asyncio.gather(*sending)
        return bytes(received)

    assert with_pair(motet.new_event_loop, body) == b"a" * 1_000_000 + b"b" * 1_000_000 + b"c" * 1_000_000


def test_both_directions_wait_at_once(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        sending = loop.create_task(loop.sock_sendall(here, bytes(2_000_000)))
        receiving = loop.create_task(loop.sock_recv(here, 100))
        await asyncio.sleep(0.01)
        assert not sending.done()
        there.send(b"answer")
        assert await receiving == b"answer"
        received = 0
        while received < 2_000_000:
            received += len(await loop.sock_recv(there, 100_000))
        await sending

    with_pair(make_loop, body)


def test_connecting_and_accepting(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            listening.setblocking(False)
            client.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listening))
            await asyncio.sleep(0)
            await loop.sock_connect(client, listening.getsockname())
            accepted, address = await accepting
            with accepted:
                assert address == client.getsockname()
                assert accepted.gettimeout() == 0
                await loop.sock_sendall(client, b"data")
                assert await loop.sock_recv(accepted, 100) == b"data"
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, listening_address)

    with socket.create_server(("127.0.0.1", 0)) as unused:
        listening_address = unused.getsockname()
    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_blocking_sockets_are_refused_in_debug_mode(make_loop: MakeLoop) -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        loop.set_debug(True)
        here.setblocking(True)
        calls: list[Awaitable[Any]] = [
            loop.sock_recv(here, 10),
            loop.sock_recv_into(here, bytearray(10)),
            loop.sock_recvfrom(here, 10),
            loop.sock_recvfrom_into(here, bytearray(10)),
            loop.sock_sendall(here, b"data"),
            loop.sock_sendto(here, b"data", ""),
            loop.sock_accept(here),
            loop.sock_connect(here, ""),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await call

    with_pair(make_loop, body)


@pytest.mark.thread_unsafe(reason="closes descriptors and reuses their numbers")
def test_a_socket_closed_under_a_call_harms_no_stranger() -> None:
    """The waiting call ends with an error; the stranger's data stays the stranger's."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        old, old_peer = socket.socketpair()
        old.setblocking(False)
        number = old.fileno()
        waiting = loop.create_task(loop.sock_recv(old, 100))
        await asyncio.sleep(0.01)
        old.close()
        new, new_peer = socket.socketpair()
        assert new.fileno() == number
        new.setblocking(False)
        with new, new_peer, old_peer:
            new_peer.send(b"private")
            assert await loop.sock_recv(new, 3) == b"pri"
            receiving = loop.create_task(loop.sock_recv(new, 100))
            assert await receiving == b"vate"
            receiving = loop.create_task(loop.sock_recv(new, 100))
            await asyncio.sleep(0.01)
            with pytest.raises(OSError, match="Bad file descriptor") as raised:
                await waiting
            assert raised.value.errno == errno.EBADF
            old_peer.close()
            new_peer.send(b"more")
            assert await receiving == b"more"

    motet.run(asyncio.wait_for(main(), 30))


@pytest.mark.thread_unsafe(reason="closes descriptors and reuses their numbers")
def test_a_number_serves_many_sockets_in_turn() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(300):
            here, there = socket.socketpair()
            here.setblocking(False)
            with here, there:
                waiting = loop.create_task(loop.sock_recv(here, 100))
                if number % 3:
                    await asyncio.sleep(0)
                if number % 5 == 0:
                    waiting.cancel()
                    continue
                there.send(b"%d" % number)
                assert await waiting == b"%d" % number

    motet.run(asyncio.wait_for(main(), 30))


def test_a_transports_socket_is_refused() -> None:
    async def body(loop: asyncio.AbstractEventLoop, here: socket.socket, there: socket.socket) -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(here, 10)
        transport.close()
        await asyncio.sleep(0.01)

    with_pair(motet.new_event_loop, body)


def test_a_cancelled_call_keeps_no_socket() -> None:
    async def main() -> bool:
        here, there = socket.socketpair()
        with there:
            here.setblocking(False)
            waiting = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(here, 10))
            await asyncio.sleep(0.01)
            waiting.cancel()
            await asyncio.wait([waiting])
            reference = weakref.ref(here)
            here.close()
            del here, waiting
            gc.collect()
            return reference() is None

    assert motet.run(main())
