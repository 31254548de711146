"""The interpreter ends with loops, transports and threads alive: no crash, no hang."""

from __future__ import annotations

import pytest
from conftest import RunProgram

pytestmark = pytest.mark.thread_unsafe(reason="starts many processes")

TIMES = 20

COMMON = """
    import asyncio, os, socket, sys, threading, time, warnings, motet

    warnings.simplefilter("ignore")

    def pair(loop):
        here, there = socket.socketpair()
        return loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=here)), there

    async def wait_for_ever():
        await asyncio.Event().wait()

    def run_in_thread():
        loop = motet.new_event_loop()
        loop.create_task(wait_for_ever())
        loop.run_forever()
"""

PROGRAMS = {
    "a live loop": """
    loop = motet.new_event_loop()
    loop.call_soon(print)
    loop.call_later(3600, print)
    loop.run_until_complete(asyncio.sleep(0))
    """,
    "an unclosed transport": """
    loop = motet.new_event_loop()
    connection, peer = pair(loop)
    """,
    "an unclosed transport in a cycle": """
    class Keeping(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
    here, there = socket.socketpair()
    loop = motet.new_event_loop()
    loop.run_until_complete(loop.create_connection(Keeping, sock=here))
    loop.close()
    del loop, here
    """,
    "a closed transport that is kept": """
    async def main():
        reader, writer = await asyncio.open_unix_connection(sock=socket.socketpair()[0])
        writer.close()
        await writer.wait_closed()
        return reader, writer
    kept = motet.run(main())
    """,
    "handles and futures that are kept": """
    loop = motet.new_event_loop()
    kept = loop.call_soon(print), loop.call_later(3600, print), loop.create_future()
    kept[2].add_done_callback(lambda _: loop)
    """,
    "a server": """
    loop = motet.new_event_loop()
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))
    client = socket.create_connection(server.sockets[0].getsockname())
    loop.run_until_complete(asyncio.sleep(0.01))
    """,
    "a waiting socket call": """
    here, there = socket.socketpair()
    here.setblocking(False)
    loop = motet.new_event_loop()
    task = loop.create_task(loop.sock_recv(here, 1))
    loop.run_until_complete(asyncio.sleep(0))
    """,
    "a daemon thread with a sleeping loop": """
    threading.Thread(target=run_in_thread, daemon=True).start()
    time.sleep(0.05)
    """,
    "daemon threads with busy loops": """
    async def be_busy():
        while True:
            await asyncio.sleep(0)
    for _ in range(3):
        threading.Thread(target=lambda: motet.run(be_busy()), daemon=True).start()
    time.sleep(0.05)
    """,
    "daemon threads that begin": """
    for _ in range(3):
        threading.Thread(target=run_in_thread, daemon=True).start()
    time.sleep(int.from_bytes(os.urandom(1), "big") / 5000)
    """,
    "a blocked loop of a daemon": """
    async def block():
        time.sleep(60)
    threading.Thread(target=lambda: motet.run(block()), daemon=True).start()
    time.sleep(0.3)
    """,
    "daemon threads that send": """
    loop = motet.new_event_loop()
    def send():
        while True:
            try:
                loop.call_soon_threadsafe(int)
            except RuntimeError:
                return
    for _ in range(2):
        threading.Thread(target=send, daemon=True).start()
    loop.run_until_complete(asyncio.sleep(0.02))
    """,
    "a running loop": """
    async def main():
        asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        sys.exit(3)
    loop = motet.new_event_loop()
    loop.run_until_complete(main())
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_end_is_orderly(run_program: RunProgram, name: str) -> None:
    expected = 3 if name == "a running loop" else 0
    for _ in range(TIMES if "thread" in name else 3):
        ended = run_program(COMMON + PROGRAMS[name], timeout=30)
        assert ended.returncode == expected, ended.stderr[-2000:]
        assert "panicked" not in ended.stderr
        assert "Fatal" not in ended.stderr
