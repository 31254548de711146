"""How TLS connections end, in good order and otherwise: handshakes that fail, time limits, broken records."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pytest
from conftest import MakeLoop
from tls_helpers import (
    AUTHORITY,
    BufferKeeper,
    Keeper,
    Peer,
    client_context,
    in_hand,
    pair,
    run,
    server_context,
)

MUCH = 4 * 1024 * 1024
RESET = struct.pack("ii", 1, 0)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def test_a_close_in_good_order(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            keeper.transport.write(b"last")
            keeper.transport.close()
            keeper.transport.close()
            assert keeper.transport.is_closing()
            assert await peer.read(4) == b"last"
            assert await peer.call(peer.tls.read, 1) == b""
            assert not keeper.lost.done()
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None
            assert keeper.events == ["made", "end", "lost"]

    run(make_tls_loop, main)


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
def test_what_is_written_last_and_the_end_go_out_together(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            keeper.transport.write(b"last")
            keeper.transport.close()
            peer.incoming.write(peer.sock.recv(65536))
            assert peer.tls.read(100) == b"last"
            assert peer.tls.read(1) == b""
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None

    run(make_tls_loop, main)


def test_the_peer_closes_in_good_order(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            await peer.write(b"last")
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None
            assert keeper.events == ["made", "end", "lost"]
            assert keeper.data == b"last"

    run(make_tls_loop, main)


def test_the_peer_just_goes(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            await peer.write(b"last")
            peer.sock.close()
            assert await keeper.lost is None
            assert keeper.events == ["made", "end", "lost"]
            assert keeper.data == b"last"

    run(make_tls_loop, main)


def test_the_peer_resets(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            sock = here.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            here.transport.abort()
            assert await here.lost is None
            assert isinstance(await there.lost, ConnectionResetError)
            assert there.events == ["made", "lost"]

    run(make_tls_loop, main)


@pytest.mark.parametrize("end", ["close", "abort", "the peer"])
def test_all_that_was_written_arrives_unless_aborted(make_tls_loop: MakeLoop, end: str) -> None:
    if make_tls_loop is asyncio.new_event_loop and end == "the peer":
        pytest.skip("asyncio's own loop loses what it has queued here")

    async def main() -> None:
        async with in_hand() as (keeper, peer):
            for _ in range(64):
                keeper.transport.write(b"x" * (MUCH // 64))
            assert keeper.transport.get_write_buffer_size() > 0
            if end == "abort":
                keeper.transport.abort()
                keeper.transport.abort()
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    await peer.read(MUCH)
            elif end == "close":
                keeper.transport.close()
                assert await peer.read(MUCH) == b"x" * MUCH
                assert await peer.call(peer.tls.read, 1) == b""
                await peer.call(peer.tls.unwrap)
            else:
                with pytest.raises(ssl.SSLWantReadError):
                    peer.tls.unwrap()
                await peer.send()
                received = 0
                while received < MUCH:
                    received += len(await peer.call(peer.tls.read, 65536))
                await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None
            for _ in range(10):
                keeper.transport.write(b"too late")

    run(make_tls_loop, main)


def test_writes_wait_for_a_slow_peer_that_has_half_closed(make_tls_loop: MakeLoop) -> None:
    if make_tls_loop is asyncio.new_event_loop:
        pytest.skip("asyncio's own loop loses what it has queued here")

    async def main() -> None:
        async with in_hand() as (keeper, peer):
            for _ in range(64):
                keeper.transport.write(b"x" * (MUCH // 64))
            peer.sock.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.05)
            assert await peer.read(MUCH) == b"x" * MUCH
            assert await keeper.lost is None

    run(make_tls_loop, main)


@pytest.mark.parametrize("make", [Keeper, BufferKeeper])
def test_a_broken_record(make_tls_loop: MakeLoop, make: Callable[[], Keeper]) -> None:
    async def main() -> None:
        async with in_hand(make=make) as (keeper, peer):
            await peer.write(b"whole")
            await keeper.received(5)
            peer.tls.write(b"broken")
            record = bytearray(peer.outgoing.read())
            record[-1] ^= 1
            await asyncio.get_running_loop().sock_sendall(peer.sock, record)
            error = await keeper.lost
            assert isinstance(error, ssl.SSLError)
            assert error.library == "SSL"
            assert error.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
            assert keeper.events == ["made", "lost"]
            assert keeper.data == b"whole"

    run(make_tls_loop, main)


def test_an_oversized_record(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            await asyncio.get_running_loop().sock_sendall(peer.sock, b"\x17\x03\x03\xff\xff" + b"x" * 65535)
            error = await keeper.lost
            assert isinstance(error, ssl.SSLError)
            assert error.reason in ("PACKET_LENGTH_TOO_LONG", "ENCRYPTED_LENGTH_TOO_LONG")

    run(make_tls_loop, main)


def test_garbage_instead_of_a_handshake(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        with far:
            far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(ssl.SSLError) as raised:
                await loop.create_unix_connection(
                    Keeper, sock=near, ssl=client_context(), server_hostname="localhost"
                )
            assert raised.value.reason == "WRONG_VERSION_NUMBER"
            assert raised.value.library == "SSL"
        server = await loop.create_server(Keeper, "127.0.0.1", 0, ssl=server_context())
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
            while await loop.sock_recv(sock, 1000):
                pass
        server.close()
        await server.wait_closed()

    run(make_tls_loop, main)


def test_a_certificate_that_is_not_trusted(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, details: heard.append(details))
        server = await loop.create_server(Keeper, "127.0.0.1", 0, ssl=server_context())
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=AUTHORITY)
        for context, name, code, text in (
            (ssl.create_default_context(), "localhost", 19, "self-signed certificate in certificate chain"),
            (trusting, "elsewhere", 62, "Hostname mismatch, certificate is not valid for 'elsewhere'."),
        ):
            with pytest.raises(ssl.SSLCertVerificationError) as raised:
                await loop.create_connection(Keeper, "127.0.0.1", port, ssl=context, server_hostname=name)
            error = raised.value
            assert (error.library, error.reason) == ("SSL", "CERTIFICATE_VERIFY_FAILED")
            assert (error.verify_code, error.verify_message) == (code, text)
        server.close()
        await server.wait_closed()
        assert heard == []

    run(make_tls_loop, main)


def test_a_handshake_that_takes_too_long(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            text = r"SSL handshake is taking longer than 0\.05 seconds: aborting the connection"
            with pytest.raises(ConnectionAbortedError, match=text):
                await asyncio.get_running_loop().create_unix_connection(
                    Keeper,
                    sock=near,
                    ssl=client_context(),
                    server_hostname="localhost",
                    ssl_handshake_timeout=0.05,
                )

    before = descriptors()
    run(make_tls_loop, main)
    assert descriptors() == before


def test_a_handshake_that_the_peer_breaks_off(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            far.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().create_unix_connection(
                    Keeper, sock=near, ssl=client_context(), server_hostname="localhost"
                )

    run(make_tls_loop, main)


def test_cancelled_handshakes_leave_nothing(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        for delay in (0, 0, 0.01):
            near, far = socket.socketpair()
            with far:
                connecting = asyncio.ensure_future(
                    asyncio.get_running_loop().create_unix_connection(
                        Keeper, sock=near, ssl=client_context(), server_hostname="localhost"
                    )
                )
                await asyncio.sleep(delay)
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
        await asyncio.sleep(0.01)

    before = descriptors()
    run(make_tls_loop, main)
    assert descriptors() == before


def test_a_shutdown_that_takes_too_long(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        peer = Peer(far, server_context(), server_side=True)
        with far:
            shaking = asyncio.ensure_future(peer.handshake())
            _, keeper = await loop.create_unix_connection(
                Keeper,
                sock=near,
                ssl=client_context(),
                server_hostname="localhost",
                ssl_shutdown_timeout=0.05,
            )
            await shaking
            keeper.transport.close()
            error = await keeper.lost
            assert isinstance(error, TimeoutError)
            assert str(error) == "SSL shutdown timed out"

    run(make_tls_loop, main)


def test_data_after_the_end(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            keeper.transport.close()
            await peer.receive()
            await peer.write(b"unheard")
            error = await keeper.lost
            assert isinstance(error, ssl.SSLError)
            assert error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"

    run(make_tls_loop, main)


@pytest.mark.parametrize("method", ["data_received", "connection_made", "eof_received"])
def test_exceptions_of_the_protocol(make_tls_loop: MakeLoop, method: str) -> None:
    failure = ValueError("of the protocol")

    def fail(*_: Any) -> None:
        raise failure

    async def main() -> None:
        heard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, details: heard.append(details))
        loop = asyncio.get_running_loop()
        near, far = socket.socketpair()
        peer = Peer(far, server_context(), server_side=True)
        with far:
            shaking = asyncio.ensure_future(peer.handshake())
            keeper = Keeper()
            setattr(keeper, method, fail)
            connecting = loop.create_unix_connection(
                lambda: keeper, sock=near, ssl=client_context(), server_hostname="localhost"
            )
            if method == "connection_made":
                with pytest.raises(ValueError, match="of the protocol"):
                    await connecting
            else:
                await connecting
                await shaking
            with contextlib.suppress(OSError):
                await shaking
                await peer.write(b"data")
                if method == "eof_received":
                    await peer.call(peer.tls.unwrap)
            assert await keeper.lost is failure
            assert [details["exception"] for details in heard] == [failure]

    run(make_tls_loop, main)


def test_an_end_that_wants_to_keep_it_open(make_tls_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    class Keeping(Keeper):
        def eof_received(self) -> bool:  # type: ignore[override]
            return True

    async def main() -> None:
        async with in_hand(make=Keeping) as (keeper, peer):
            await peer.call(peer.tls.unwrap)
            assert await keeper.lost is None

    run(make_tls_loop, main)
    assert "returning true from eof_received() has no effect when using ssl" in caplog.text


def test_a_closed_server_closes_its_clients(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Keeper] = []

        def factory() -> Keeper:
            made.append(Keeper())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
        port = server.sockets[0].getsockname()[1]
        _, client = await loop.create_connection(
            Keeper, "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
        )
        client.transport.write(b"x")
        await made[0].received(1)
        made[0].transport.write(b"last")
        server.close()
        if hasattr(server, "close_clients"):
            server.close_clients()
        else:
            made[0].transport.close()
        assert await client.received(4) == b"last"
        await made[0].lost
        await client.lost
        await server.wait_closed()

    run(make_tls_loop, main)


def test_an_answer_to_a_peer_that_closes_at_once(make_tls_loop: MakeLoop) -> None:
    """The last data and the end come together; who answers the data does not hear yet that nobody listens."""

    async def main() -> None:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            writer.write(b"answer\n")
            try:
                await writer.drain()
                answered.set_result(line)
            except OSError as error:
                answered.set_exception(error)
            finally:
                writer.transport.abort()

        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context()) as server:
            _, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
            )
            writer.write(b"question\n")
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await asyncio.sleep(0.01)
            assert await answered == b"question\n"

    run(make_tls_loop, main)
