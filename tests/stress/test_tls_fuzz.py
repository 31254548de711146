"""TLS with those who do not speak it well: damaged records, broken handshakes, new keys, and none at all.

`MOTET_STRESS_SECONDS` and `MOTET_STRESS_SEED` are those of the fuzz of transports.
"""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import socket
import ssl
import subprocess
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import pytest
import tls_contexts
from clean_run import run_clean
from conftest import MakeLoop
from dose import SEED, seconds
from fuzzed_connection import RESET, pattern
from tls_adversary import Adversary, Gone

AT_ONCE = 10
# Against hanging only.
LIMIT = 60

pytestmark = pytest.mark.thread_unsafe(reason="long, and counts the process's descriptors")


class Echo(asyncio.Protocol):
    """Sends back the pattern that it gets, and notes what else happens."""

    alive: ClassVar[weakref.WeakSet[Echo]] = weakref.WeakSet()

    def __init__(self, wrong: list[str]) -> None:
        self.wrong = wrong
        self.received = 0
        self.state = "new"
        Echo.alive.add(self)

    def step(self, before: str, after: str) -> None:
        if self.state != before:
            self.wrong.append(f"{after} when {self.state}")
        self.state = after

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.step("new", "open")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.step("open", "open")
        if data != pattern(self.received, len(data)):
            self.wrong.append(f"wrong bytes at {self.received}")
        self.received += len(data)
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.step("open", "lost")
        if not isinstance(error, OSError | None):
            self.wrong.append(f"ended by {error!r}")


@asynccontextmanager
async def serving(wrong: list[str], **arguments: float) -> AsyncIterator[tuple[str, int]]:
    """The address of a TLS server with `Echo`; afterwards its connections must end by themselves."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Echo(wrong), "127.0.0.1", 0, ssl=tls_contexts.server_context(), backlog=1000, **arguments
    )
    yield server.sockets[0].getsockname()
    server.close()
    await asyncio.wait_for(server.wait_closed(), LIMIT)


def connect(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock


async def read_to_the_end(sock: socket.socket) -> bytes:
    """All that the server sends until it ends the connection."""
    received = b""
    with suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(sock, 65_536):
            received += data
    return received


class Fuzz:
    """Conversations with the server by clients that damage some of what they send."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.wrong: list[str] = []
        self.number = 0
        self.damaged = 0
        self.well = 0
        contexts = [tls_contexts.client_context() for _ in range(2)]
        contexts[0].maximum_version = ssl.TLSVersion.TLSv1_2
        self.contexts = contexts

    async def converse(self, generator: random.Random) -> None:
        damage = generator.choice([0, 0.05, 0.5])
        with connect(self.address) as sock:
            client = Adversary(sock, generator.choice(self.contexts), tls_contexts.HOST, generator, damage)
            try:
                await client.handshake()
                place = 0
                for _ in range(generator.randrange(6)):
                    data = pattern(place, generator.choice([1, 100, 5000, 100_000]))
                    await client.send(data)
                    place = await self.compare(client, place, place + len(data))
                if generator.random() < 0.6:
                    await client.end()
                elif generator.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except (Gone, OSError) as error:
                if not client.damaged:
                    self.wrong.append(f"ended by {error!r}")
            self.damaged += client.damaged
            self.well += not client.damaged

    async def compare(self, client: Adversary, place: int, end: int) -> int:
        while place < end:
            data = await client.read()
            if data != pattern(place, len(data)):
                self.wrong.append(f"wrong bytes at {place} of the echo")
            if not data:
                raise Gone
            place += len(data)
        return place

    async def go_on(self, until: float) -> None:
        while time.monotonic() < until and not self.wrong:
            self.number += 1
            number = self.number
            try:
                async with asyncio.timeout(LIMIT):
                    await self.converse(random.Random(f"{SEED}.{number}"))
            except Exception as error:
                error.add_note(f"in conversation {number} of seed {SEED}")
                raise


def test_damaged_records(make_tls_loop: MakeLoop) -> None:
    async def main() -> None:
        wrong: list[str] = []
        async with serving(wrong) as address:
            fuzz = Fuzz(address)
            until = time.monotonic() + seconds(5)
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(fuzz.go_on(until))
        assert (wrong, fuzz.wrong) == ([], [])
        # The run was worth something.
        assert fuzz.damaged > 20
        assert fuzz.well > 20

    run_clean(make_tls_loop, main)
    gc.collect()
    assert len(Echo.alive) == 0


GREETINGS = {
    "noise": bytes(range(256)) * 10,
    "another-protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "part-of-a-record": b"\x16\x03\x01\x02\x00\x01\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("ending", ["half-closed", "closed", "reset", "silent"])
@pytest.mark.parametrize("greeting", GREETINGS)
def test_no_handshake(make_tls_loop: MakeLoop, greeting: str, ending: str) -> None:
    """Whatever comes instead of a handshake: the connection ends and the protocol hears nothing of it."""

    async def main() -> None:
        wrong: list[str] = []
        async with serving(wrong, ssl_handshake_timeout=0.1) as address:
            for _ in range(5):
                with connect(address) as sock:
                    sock.send(GREETINGS[greeting])
                    if ending == "half-closed":
                        sock.shutdown(socket.SHUT_WR)
                    if ending in ("half-closed", "silent"):
                        await read_to_the_end(sock)
                    elif ending == "reset":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await asyncio.sleep(0.05)
        assert wrong == []

    run_clean(make_tls_loop, main)
    gc.collect()
    assert len(Echo.alive) == 0


@pytest.mark.parametrize(
    "answer", [b"noise" * 100, b"\x16\x03\x03\x00", b"\x15\x03\x03\x00\x02\x02\x28", b""]
)
def test_servers_that_do_not_speak_tls(make_tls_loop: MakeLoop, answer: bytes) -> None:
    """A client's handshake fails with an error of the system's or of TLS, and nothing is left."""

    async def main() -> None:
        async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            with suppress(ConnectionError):
                # All of the first greeting, then all there is until the client gives up.
                await reader.read(65_536 if hang_up else -1)
            writer.close()

        async with await asyncio.start_server(mumble, "127.0.0.1", 0) as server:
            for hang_up in (True, False):  # noqa: B007, the server looks at it
                with pytest.raises(OSError):  # noqa: PT011, its text is OpenSSL's or the system's
                    await asyncio.open_connection(
                        *server.sockets[0].getsockname(),
                        ssl=tls_contexts.client_context(),
                        server_hostname=tls_contexts.HOST,
                        ssl_handshake_timeout=0.1,
                    )

    run_clean(make_tls_loop, main)


def test_cancelled_handshakes(make_tls_loop: MakeLoop) -> None:
    """A client's handshake is given up at any point of it; neither side keeps anything."""

    async def main() -> None:
        wrong: list[str] = []
        loop = asyncio.get_running_loop()
        generator = random.Random(SEED)
        made = 0
        async with serving(wrong) as address:
            for _ in range(150):
                connecting = loop.create_connection(
                    asyncio.Protocol,
                    *address,
                    ssl=tls_contexts.client_context(),
                    server_hostname=tls_contexts.HOST,
                )
                try:
                    async with asyncio.timeout(generator.choice([0, 0.0005, 0.002, 0.004])):
                        transport, _ = await connecting
                except TimeoutError:
                    continue
                made += 1
                transport.close()
        assert wrong == []
        assert made < 150

    run_clean(make_tls_loop, main)
    gc.collect()
    assert len(Echo.alive) == 0


@pytest.mark.parametrize(
    ("version", "command"), [("-tls1_2", b"R\n"), ("-tls1_3", b"K\n"), ("-tls1_3", b"k\n")]
)
def test_renegotiation_and_new_keys(make_tls_loop: MakeLoop, version: str, command: bytes) -> None:
    """`openssl s_client` asks for a renegotiation, which may end the connection, or changes its keys."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl here (Debian package openssl)")

    class Lines(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.replace(b"question", b"answer"))

    def ask(port: int) -> None:
        arguments = [program, "s_client", version, "-connect", f"127.0.0.1:{port}"]
        with subprocess.Popen(
            arguments, 0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin
            assert client.stdout

            def say(words: bytes, answer: bytes) -> bool:
                """Whether the answer comes; the client reads one command at a time, so each is awaited."""
                client.stdin.write(words)
                client.stdin.flush()
                return answer in iter(client.stdout.readline, b"")

            try:
                for turn in range(3):
                    answered = say(b"question %d\n" % turn, b"answer %d\n" % turn)
                    # A renegotiation may be refused by the connection's end.
                    assert answered or (turn > 0 and command == b"R\n")
                    if not answered:
                        break
                    assert say(command, b"RENEGOTIATING\n" if command == b"R\n" else b"KEYUPDATE\n")
                client.stdin.write(b"Q\n")
                client.stdin.close()
            except BrokenPipeError:
                assert command == b"R\n"
            finally:
                client.kill()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Lines, "127.0.0.1", 0, ssl=tls_contexts.server_context())
        port = server.sockets[0].getsockname()[1]
        await asyncio.gather(*(asyncio.to_thread(ask, port) for _ in range(3)))
        server.close()
        await server.wait_closed()
        await loop.shutdown_default_executor()

    run_clean(make_tls_loop, main)
