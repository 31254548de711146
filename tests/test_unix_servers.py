"""Unix sockets: servers, connections, and the path that a server leaves or removes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import motet
import pytest
from conftest import MakeLoop


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder) / "socket"


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def ask(path: Path | str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"question")
    answer = await reader.readexactly(8)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("kind", [str, Path, lambda path: str(path).encode()])
def test_a_server_at_a_path(make_loop: MakeLoop, path: Path, kind: type) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_unix_server(Echo, kind(path))
        assert await ask(path) == b"question"
        server.close()
        await server.wait_closed()

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_a_server_in_the_abstract_namespace() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_unix_server(Echo, "\0motet-test")
        assert await ask("\0motet-test") == b"question"
        server.close()
        await server.wait_closed()

    motet.run(main())


def test_the_path_is_removed_when_asked_for(path: Path) -> None:
    async def main() -> tuple[bool, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        kept = await loop.create_unix_server(Echo, path, cleanup_socket=False)
        kept.close()
        remains = path.exists()
        # A socket from before does not stand in the way.
        removed = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        removed.close()
        return remains, path.exists()

    assert motet.run(main()) == (True, False)


def test_another_servers_path_is_not_removed(path: Path) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, motet.EventLoop)
        first = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        second = await loop.create_unix_server(Echo, path, cleanup_socket=True)
        first.close()
        answer = await ask(path)
        second.close()
        assert not path.exists()
        return answer

    assert motet.run(main()) == b"question"


def test_a_path_that_is_taken_by_a_file(make_loop: MakeLoop, path: Path) -> None:
    path.write_text("a file", encoding="ascii")

    async def main() -> None:
        with pytest.raises(OSError, match="is already in use"):
            await asyncio.get_running_loop().create_unix_server(Echo, path)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
    assert path.read_text(encoding="ascii") == "a file"


def test_connections_that_fail(make_loop: MakeLoop, path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Echo, str(path))
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            with pytest.raises(ConnectionRefusedError):
                await loop.create_unix_connection(Echo, str(path))

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_arguments_that_contradict(make_loop: MakeLoop, path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as sock, socket.socket() as internet:
            for method in (loop.create_unix_server, loop.create_unix_connection):
                with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                    await method(Echo, str(path), sock=sock)
                with pytest.raises(ValueError, match=r"no.* sock.* specified|no path and sock"):
                    await method(Echo)
                with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                    await method(Echo, sock=internet)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_a_full_queue_of_a_server_makes_clients_wait(path: Path) -> None:
    """Unix sockets refuse at once where TCP goes on in the background."""

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(Echo, path, backlog=1)
        answers = await asyncio.gather(*(ask(path) for _ in range(50)))
        server.close()
        return answers

    assert motet.run(main()) == [b"question"] * 50


def test_data_that_comes_with_descriptors_is_read_to_its_end(make_loop: MakeLoop) -> None:
    """A read stops where descriptors were passed, though more data waits."""

    async def main() -> bytes:
        here, there = socket.socketpair()
        received = bytearray()

        class Receiver(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.extend(data)

        transport, _ = await asyncio.get_running_loop().create_unix_connection(Receiver, sock=here)
        await asyncio.sleep(0.01)
        for number in range(5):
            socket.send_fds(there, [b"%d" % number], [there.fileno()])
        there.send(b"end")
        await asyncio.sleep(0.05)
        transport.close()
        await asyncio.sleep(0.01)
        there.close()
        return bytes(received)

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == b"01234end"
