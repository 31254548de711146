"""`create_connection` and `connect_accepted_socket`: candidates, local addresses, cancellation."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from contextlib import closing

import motet
import pytest
from conftest import MakeLoop


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def close(transport: asyncio.BaseTransport) -> None:
    transport.close()
    await asyncio.sleep(0.01)


def test_a_connection_is_made(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
            transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(protocol, asyncio.Protocol)
            assert transport.get_extra_info("peername") == address
            await close(transport)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_a_refused_connection(make_loop: MakeLoop) -> None:
    async def main() -> ConnectionRefusedError:
        with pytest.raises(ConnectionRefusedError, match="Connect call failed") as raised:
            await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", unused_port())
        return raised.value

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()).errno == errno.ECONNREFUSED


@pytest.mark.parametrize("delay", [None, 0.01, 0.25])
def test_the_next_address_is_tried(
    make_loop: MakeLoop, delay: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with several addresses, of which only the last one answers."""

    async def main() -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.3", 0)) as listening:
            port = listening.getsockname()[1]

            async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
                addresses = [(f"127.0.0.{number}", port) for number in (1, 2, 3)]
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

            monkeypatch.setattr(loop, "getaddrinfo", resolve)
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "name.invalid", port, happy_eyeballs_delay=delay
            )
            peer: tuple[str, int] = transport.get_extra_info("peername")
            await close(transport)
            return peer

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main())[0] == "127.0.0.3"


def test_a_local_address(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *address, local_addr=("127.0.0.2", 0)
            )
            assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
            await close(transport)
            with pytest.raises(OSError, match="while attempting to bind on address"):
                await loop.create_connection(asyncio.Protocol, *address, local_addr=("192.0.2.1", 0))

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())


def test_arguments_that_contradict(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                await loop.create_connection(asyncio.Protocol, "127.0.0.1", 1, sock=sock)  # type: ignore[call-overload]
            with pytest.raises(ValueError, match="host and port was not specified and no sock specified"):
                await loop.create_connection(asyncio.Protocol)
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.create_connection(asyncio.Protocol, sock=datagrams)
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.connect_accepted_socket(asyncio.Protocol, datagrams)

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())


def test_an_accepted_socket_becomes_a_connection(make_loop: MakeLoop) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader), accepted
        )
        client.send(b"data")
        client.close()
        data = await reader.read()
        await close(transport)
        return data

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == b"data"


def test_a_socket_is_not_given_to_two_transports() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with there:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(asyncio.Protocol, sock=here)
            await close(transport)

    motet.run(main())


def test_a_cancelled_connect_leaves_no_descriptor(make_loop: MakeLoop) -> None:
    """The server's queue is full, so the connect waits until it is cancelled."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen(0)
            address = listening.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.create_connection(asyncio.Protocol, *address), 0.05)
            for filler in fillers:
                filler.close()

    with closing(make_loop()) as loop:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    gc.collect()


def test_a_protocol_factory_that_fails_closes_the_socket() -> None:
    def fail() -> asyncio.Protocol:
        raise LookupError("on purpose")

    async def main() -> bytes:
        here, there = socket.socketpair()
        with there:
            with pytest.raises(LookupError, match="on purpose"):
                await asyncio.get_running_loop().create_connection(fail, sock=here)
            here.close()
            return there.recv(1)

    assert motet.run(main()) == b""


def test_urgent_data_does_not_hide_what_follows(make_loop: MakeLoop) -> None:
    """A read stops before a byte that was sent out of band, though more data waits behind it."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        received = bytearray()

        class Receiver(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.extend(data)

        transport, _ = await loop.connect_accepted_socket(Receiver, accepted)
        await asyncio.sleep(0.01)
        client.send(b"before ")
        client.send(b"!", socket.MSG_OOB)
        client.send(b"behind")
        await asyncio.sleep(0.05)
        await close(transport)
        client.close()
        return bytes(received)

    with closing(make_loop()) as loop:
        assert loop.run_until_complete(main()) == b"before behind"


def test_a_refused_protocol_leaves_the_socket_as_it_was() -> None:
    class Refused(asyncio.Protocol):
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise RuntimeError("no class")

    async def main() -> None:
        near, far = socket.socketpair()
        with far:
            with pytest.raises(RuntimeError, match="no class"):
                await asyncio.get_running_loop().create_unix_connection(Refused, sock=near)
            near.close()
            assert near.fileno() == -1

    motet.run(main())
