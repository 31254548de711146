"""TLS connections: what is agreed upon, data, flow control, both ways of doing it and asyncio's own."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import motet
import pytest
from conftest import MakeLoop, RunProgram
from tls_helpers import (
    AUTHORITY,
    CLIENT,
    SERVER,
    BufferKeeper,
    Keeper,
    client_context,
    in_hand,
    pair,
    run,
    server_context,
)

WAYS = ["native", "memory-bio"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_agree_on_everything(make_tls_loop: MakeLoop, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        server, client = server_context(), client_context()
        client.minimum_version = client.maximum_version = version
        server.set_alpn_protocols(["b", "a"])
        client.set_alpn_protocols(["a"])
        async with pair(server, client) as (there, here):
            here.transport.write(b"ping")
            assert await there.received(4) == b"ping"
            there.transport.write(b"pong")
            assert await here.received(4) == b"pong"
            tell = here.transport.get_extra_info
            tls = tell("ssl_object")
            assert tls.version() == {772: "TLSv1.3", 771: "TLSv1.2"}[version]
            assert tls.selected_alpn_protocol() == "a"
            assert tell("sslcontext") is client
            assert tell("peercert") == tls.getpeercert()
            assert ("DNS", "localhost") in tell("peercert")["subjectAltName"]
            assert tell("cipher") == tls.cipher()
            assert tell("compression") is None
            assert tell("peername") == there.transport.get_extra_info("sockname")
            assert tell("socket").fileno() >= 0
            assert tell("nothing", 7) == 7
            assert there.transport.get_extra_info("peercert") is None

    run(make_tls_loop, main)


@pytest.mark.parametrize("way", WAYS)
def test_statistics_say_which_way(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("MOTET_TLS", way)

    async def main() -> str:
        async with pair() as (there, _):
            return type(there.transport).__name__

    with closing(motet.new_event_loop()) as loop:
        assert loop.statistics()["tls"] == way
        name = loop.run_until_complete(main())
    assert name == {"native": "SSLTransport", "memory-bio": "_SSLProtocolTransport"}[way]


@pytest.mark.parametrize("change", ["del _ssl.__file__", "ssl.OPENSSL_VERSION_NUMBER += 1"])
def test_an_openssl_that_cannot_be_reached(run_program: RunProgram, change: str) -> None:
    program = f"""
        import _ssl, ssl
        {change}
        import motet
        loop = motet.new_event_loop()
        print(loop.statistics()["tls"])
        loop.close()
    """
    result = run_program(program)
    assert (result.stdout, result.stderr) == ("memory-bio\n", "")


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="preloads what it compiles")
@pytest.mark.parametrize(
    ("function", "way"),
    [("SSL_read_ex", "memory-bio"), ("BIO_get_data", "memory-bio"), ("some_other", "native")],
)
def test_calls_that_another_library_answers_are_not_passed_over(
    run_program: RunProgram, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: str, way: str
) -> None:
    source, library = tmp_path / "first.c", tmp_path / "first.so"
    source.write_text(f"int {function}(void) {{ return 0; }}")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    result = run_program("""
        import motet
        loop = motet.new_event_loop()
        print(loop.statistics()["tls"])
        loop.close()
    """)
    assert (result.stdout, result.stderr) == (f"{way}\n", "")


def test_a_wrong_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_TLS", "rustls")
    with pytest.raises(ValueError, match="MOTET_TLS must be 'native' or 'memory-bio', not 'rustls'"):
        motet.new_event_loop()


def test_it_is_a_transport(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (_, here):
            transport = here.transport
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_protocol() is here
            assert not transport.can_write_eof()
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
                transport.write("text")  # type: ignore[arg-type]
            assert transport.is_reading()
            assert not transport.is_closing()
            assert transport.get_write_buffer_limits() == (128 * 1024, 512 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
                transport.set_write_buffer_limits(high=1, low=2)
            assert "client" in repr(transport) or "_SSLProtocolTransport" in repr(transport)

    run(make_tls_loop, main)


@pytest.mark.parametrize("make", [Keeper, lambda: BufferKeeper(), lambda: BufferKeeper(100_000)])
def test_much_data_in_pieces_of_all_sizes(make_tls_loop: MakeLoop, make: Callable[[], Keeper]) -> None:
    sizes = [1, 2, 100, 16_383, 16_384, 16_385, 0, 70_000, 3, 1_000_000, 5]
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]

    async def main() -> None:
        async with pair(make=make) as (there, here):
            for protocol in (there, here):
                protocol.transport.writelines(pieces[:3])
                for piece in pieces[3:]:
                    protocol.transport.write(bytearray(piece))
            everything = b"".join(pieces)
            assert await there.received(len(everything)) == everything
            assert await here.received(len(everything)) == everything

    run(make_tls_loop, main)


def test_bytes_are_whole_however_they_arrive(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            for number in range(20):
                peer.tls.write(b"%d " % number * 10)
            records = peer.outgoing.read()
            for byte in records:
                peer.sock.send(bytes([byte]))
                if byte % 3 == 0:
                    await asyncio.sleep(0)
            expected = b"".join(b"%d " % number * 10 for number in range(20))
            assert await keeper.received(len(expected)) == expected

    run(make_tls_loop, main)


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
def test_writes_of_one_round_are_one_record(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            await peer.write(b"go")
            await keeper.received(2)
            peer.raw_received.clear()
            for number in range(50):
                keeper.transport.write(b"%02d" % number)
            assert await peer.read(100) == b"".join(b"%02d" % number for number in range(50))
            records = bytes(peer.raw_received)
            assert len(records) == 5 + int.from_bytes(records[3:5], "big")

    run(make_tls_loop, main)


def test_a_paused_reader_gets_nothing(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            here.transport.pause_reading()
            assert not here.transport.is_reading()
            there.transport.write(b"x" * 100_000)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not here.data
            here.transport.resume_reading()
            assert len(await here.received(100_000)) == 100_000

    run(make_tls_loop, main)


def test_a_reader_that_pauses_in_the_middle_loses_nothing(make_tls_loop: MakeLoop) -> None:
    class Pausing(BufferKeeper):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main() -> None:
        async with pair(make=Pausing) as (there, here):
            message = os.urandom(5000)
            there.transport.write(message)
            assert await here.received(5000) == message

    run(make_tls_loop, main)


def test_flow_control_holds_the_writer(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            here.transport.pause_reading()
            while "pause" not in there.events:
                there.transport.write(b"x" * 100_000)
                await asyncio.sleep(0)
            waiting = there.transport.get_write_buffer_size()
            assert waiting >= 512 * 1024
            here.transport.resume_reading()
            await there.happened("resume")
            assert there.events.count("pause") == there.events.count("resume") == 1

    run(make_tls_loop, main)


def test_a_write_that_finds_room_again_sends_the_rest_too(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with in_hand() as (keeper, peer):
            for _ in range(32):
                keeper.transport.write(b"x" * 65_536)
            assert keeper.transport.get_write_buffer_size() > 65_536
            with suppress(BlockingIOError):
                while True:
                    peer.incoming.write(peer.sock.recv(65_536))
            keeper.transport.write(b"y" * 65_536)
            assert await peer.read(33 * 65_536) == b"x" * 32 * 65_536 + b"y" * 65_536

    run(make_tls_loop, main)


def test_client_certificates(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        server, client = server_context(), client_context()
        server.verify_mode = ssl.CERT_REQUIRED
        client.load_cert_chain(CLIENT)
        async with pair(server, client) as (there, _):
            subject = there.transport.get_extra_info("peercert")["subject"]
            assert subject == ((("commonName", "motet test client"),),)

    run(make_tls_loop, main)


def test_post_handshake_authentication(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        server, client = server_context(), client_context()
        server.verify_mode = ssl.CERT_OPTIONAL
        client.post_handshake_auth = True
        client.load_cert_chain(CLIENT)
        server.post_handshake_auth = True
        async with pair(server, client) as (there, here):
            tls = there.transport.get_extra_info("ssl_object")
            assert tls.getpeercert() is None
            tls.verify_client_post_handshake()
            there.transport.write(b"who are you?")
            await here.received(12)
            here.transport.write(b"me")
            assert await there.received(2) == b"me"
            assert tls.getpeercert()["subject"] == ((("commonName", "motet test client"),),)

    run(make_tls_loop, main)


def test_the_name_callback_chooses_the_context(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        asked: list[Any] = []
        outer, inner = server_context(), server_context()
        inner.set_alpn_protocols(["inner"])

        def choose(tls: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
            asked.append((type(tls).__name__, name, context is outer))
            tls.context = inner

        outer.sni_callback = choose
        client = client_context()
        client.set_alpn_protocols(["inner"])
        async with pair(outer, client) as (_, here):
            assert asked == [("SSLObject", "localhost", True)]
            assert here.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "inner"

    run(make_tls_loop, main)


def test_the_key_log_is_written(make_tls_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        server = server_context()
        server.keylog_filename = str(tmp_path / "keys")
        async with pair(server):
            pass

    run(make_tls_loop, main)
    assert "CLIENT_TRAFFIC_SECRET" in (tmp_path / "keys").read_text()


def test_unix_servers_and_accepted_sockets(make_tls_loop: MakeLoop, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Keeper] = []

        def factory() -> Keeper:
            made.append(Keeper())
            return made[-1]

        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(factory, path, ssl=server_context())
        _, client = await loop.create_unix_connection(
            Keeper, path, ssl=client_context(), server_hostname="localhost"
        )
        client.transport.write(b"over unix")
        await made[0].received(9)
        near, far = socket.socketpair()
        accepting = loop.create_task(loop.connect_accepted_socket(Keeper, near, ssl=server_context()))
        _, other = await loop.create_unix_connection(
            Keeper, sock=far, ssl=client_context(), server_hostname="localhost"
        )
        transport, accepted = await accepting
        transport.write(b"accepted")
        await other.received(8)
        for protocol in (client, made[0], other, accepted):
            protocol.transport.abort()
            await protocol.lost
        server.close()
        await server.wait_closed()

    run(make_tls_loop, main)


def test_arguments_are_checked_at_the_call(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="ssl argument must be an SSLContext or None"):
            await loop.create_server(Keeper, "127.0.0.1", 0, ssl=True)
        for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
            limit: dict[str, Any] = {name: 1.0}
            with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                await loop.create_connection(Keeper, "127.0.0.1", 1, **limit)
        with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
            await loop.create_unix_connection(Keeper, "nowhere", ssl=True)
        near, far = socket.socketpair()
        with near, far, pytest.raises(ValueError, match="ssl_handshake_timeout should be a positive number"):
            await loop.create_unix_connection(
                Keeper, sock=near, ssl=True, server_hostname="", ssl_handshake_timeout=-1
            )

    run(make_tls_loop, main)


class OwnObject(ssl.SSLObject):
    """A program's own kind of TLS object, which looks at all that is read."""

    seen: ClassVar[list[bytes]] = []

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        data = super().read(len, buffer)
        self.seen.append(data)
        return data


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
@pytest.mark.parametrize("change", ["object", "messages"])
def test_what_only_python_can_do_is_left_to_it(make_tls_loop: MakeLoop, change: str) -> None:
    async def main() -> None:
        context = client_context()
        if change == "object":
            context.sslobject_class = OwnObject
        else:
            setattr(context, "_msg_callback", lambda *message: OwnObject.seen.append(b"message"))  # noqa: B010
        OwnObject.seen.clear()
        async with pair(client=context) as (there, here):
            there.transport.write(b"look")
            await here.received(4)
            assert OwnObject.seen
            assert type(here.transport).__name__ == "_SSLProtocolTransport"
            assert type(there.transport).__name__ == "SSLTransport"

    run(make_tls_loop, main)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
@pytest.mark.parametrize("end", ["close", "abort"])
def test_nothing_is_left_of_a_closed_connection(
    make_tls_loop: MakeLoop, no_collector: None, end: str
) -> None:
    left: list[weakref.ref[Any]] = []

    def remember(keeper: Keeper) -> None:
        tls = keeper.transport.get_extra_info("ssl_object")
        left.extend(map(weakref.ref, (keeper, keeper.transport, tls)))

    async def main() -> None:
        async with pair() as (there, here):
            here.transport.write(b"data")
            await there.received(4)
            remember(here)
            remember(there)
            getattr(here.transport, end)()
            await here.lost
            await there.lost

    run(make_tls_loop, main)
    assert [reference() for reference in left] == [None] * 6


# The head of a record that is too long.
TOO_LONG = b"\x17\x03\x03\xff\xff"


def _in_memory() -> tuple[ssl.SSLObject, ssl.SSLObject, ssl.MemoryBIO]:
    """A client and its server after their handshake, and what the server reads from."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_context().wrap_bio(to_server, to_client, server_side=True)
    for tls in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            tls.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        client.read(1)
    return client, server, to_server


def _leave_an_error() -> None:
    """In this thread's queue of OpenSSL's: `unwrap()` succeeds on a fatal alert."""
    client, server, to_server = _in_memory()
    to_server.write(TOO_LONG)
    with pytest.raises(ssl.SSLError):
        server.read(1)
    client.unwrap()


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
def test_errors_of_other_connections_are_not_its_own(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            _leave_an_error()
            here.transport.write(b"data")
            await there.received(4)
            _leave_an_error()
            here.transport.close()
            assert (await here.lost, await there.lost) == (None, None)

    run(make_tls_loop, main)


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
def test_an_alert_at_the_end_leaves_no_error_to_others(make_tls_loop: MakeLoop) -> None:
    other, _server, _to_server = _in_memory()

    async def main() -> None:
        async with in_hand() as (here, peer):
            here.transport.close()
            peer.incoming.write(TOO_LONG)
            with pytest.raises(ssl.SSLError):
                await peer.read(1)
            await peer.send()
            await here.lost
            with pytest.raises(ssl.SSLWantReadError):
                other.read(1)

    run(make_tls_loop, main)


@pytest.mark.parametrize("make_tls_loop", ["native"], indirect=True)
def test_an_error_of_the_socket_leaves_none_of_tls_to_others(make_tls_loop: MakeLoop) -> None:
    other, _server, _to_server = _in_memory()

    async def main() -> None:
        async with in_hand() as (here, peer):
            # TLS is at its end, and the socket too: what is written fails in both.
            with pytest.raises(ssl.SSLWantReadError):
                here.transport.get_extra_info("ssl_object").unwrap()
            peer.sock.close()
            here.transport.write(b"x")
            assert isinstance(await here.lost, ConnectionError)
            with pytest.raises(ssl.SSLWantReadError):
                other.read(1)

    run(make_tls_loop, main)


def test_an_object_outlives_its_connection(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        async with pair() as (there, here):
            tls = here.transport.get_extra_info("ssl_object")
            here.transport.close()
            await here.lost
            await there.lost
        del here, there
        gc.collect()
        assert tls.server_hostname == "localhost"
        assert tls.context.verify_mode == ssl.CERT_REQUIRED
        with pytest.raises(ssl.SSLError):
            tls.read(1)

    run(make_tls_loop, main)


def test_the_authority_is_the_tests_own() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVER)
    context.load_verify_locations(AUTHORITY)
    assert len(context.get_ca_certs()) == 1


def test_a_tls_transport_stays_above_its_own_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport below lends it its buffers and drives it."""
    monkeypatch.setenv("MOTET_TLS", "native")

    async def main() -> None:
        async with pair(server_context(), client_context()) as (_, here):
            one, other = socket.socketpair()
            with other:
                transport, _protocol = await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, sock=one
                )
                with pytest.raises(RuntimeError, match="another transport below it"):
                    transport.set_protocol(here.transport)  # type: ignore[arg-type]
                loop = motet.new_event_loop()
                foreign, _protocol = await _connect_on(loop, other.dup())
                with pytest.raises(RuntimeError, match="another event loop"):
                    foreign.set_protocol(here.transport)  # type: ignore[arg-type]
                transport.close()
                await asyncio.to_thread(_close_on, loop, foreign)

    motet.run(main())


async def _connect_on(
    loop: asyncio.AbstractEventLoop, sock: socket.socket
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    def connect() -> tuple[asyncio.Transport, asyncio.Protocol]:
        return loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=sock))

    return await asyncio.to_thread(connect)


def _close_on(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
