"""Ten thousand connections are held at once and all answered; both ends are processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap

import pytest

CONNECTIONS = 10_000
# Beside the connections: standard streams, listening socket, poller, libraries.
OTHERS = 100

pytestmark = pytest.mark.thread_unsafe(reason="raises a limit of the process")

SERVER = """
    import asyncio, resource, sys, motet

    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        statistics = loop.statistics()
        print(statistics["connections_accepted"], statistics["bytes_received"], flush=True)
        server.close()
        server.abort_clients()
        await server.wait_closed()

    motet.run(main())
"""

CLIENT = """
    import asyncio, resource, sys, motet

    limit, port, count = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    class Client(asyncio.Protocol):
        def __init__(self, number):
            self.sent = b"%08d" % number
            self.received = b""
            self.answered = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.received += data
            if len(self.received) >= len(self.sent):
                self.answered.set_result(self.received == self.sent)

        def connection_lost(self, error):
            if not self.answered.done():
                self.answered.set_exception(error or ConnectionError("closed"))

    async def connect(number, turns):
        async with turns:
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(lambda: Client(number), "127.0.0.1", port))[1]

    async def main():
        turns = asyncio.Semaphore(200)
        clients = await asyncio.gather(*(connect(number, turns) for number in range(count)))
        # All are open now; each asks once more in its turn.
        for client in clients:
            client.transport.write(client.sent)
        answers = await asyncio.gather(*(client.answered for client in clients))
        print(sum(answers), flush=True)
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(0.1)

    motet.run(main())
"""


def test_ten_thousand_connections_are_answered() -> None:
    needed = CONNECTIONS + OTHERS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"the hard limit of open files is {hard}; {needed} are needed")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), str(needed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin
        assert server.stdout
        try:
            port = server.stdout.readline().strip()
            client = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(CLIENT), str(needed), port, str(CONNECTIONS)],
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert (client.stdout, client.stderr) == (f"{CONNECTIONS}\n", "")
            server.stdin.write("end\n")
            server.stdin.flush()
            assert server.stdout.readline().split() == [str(CONNECTIONS), str(8 * CONNECTIONS)]
            assert server.wait(60) == 0
        finally:
            server.kill()
