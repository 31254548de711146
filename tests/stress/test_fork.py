"""`fork` while a loop runs: the child runs its own, and its end does not touch the parent's connections."""

from __future__ import annotations

import sys

import pytest
from conftest import RunProgram

pytestmark = pytest.mark.thread_unsafe(reason="forks")

PARENT = """
    import asyncio, os, socket, sys, warnings, motet

    warnings.simplefilter("ignore", DeprecationWarning)

    def child():
        {child}

    async def main():
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        streams = [await asyncio.open_connection(*address) for _ in range(10)]
        here, there = socket.socketpair()
        here.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(here, 100))
        timer = loop.create_future()
        loop.call_later(0.2, timer.set_result, None)
        await asyncio.sleep(0.01)
        process = os.fork()
        if process == 0:
            child()
        _, status = await asyncio.to_thread(os.waitpid, process, 0)
        for number, (reader, writer) in enumerate(streams):
            writer.write(b"%d\\n" % number)
            assert await asyncio.wait_for(reader.readline(), 30) == b"%d\\n" % number
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"new\\n")
        assert await asyncio.wait_for(reader.readline(), 30) == b"new\\n"
        streams.append((reader, writer))
        there.send(b"received")
        assert await asyncio.wait_for(receiving, 30) == b"received"
        await asyncio.wait_for(timer, 30)
        for _, writer in streams:
            writer.close()
            await writer.wait_closed()
        here.close()
        there.close()
        server.close()
        await server.wait_closed()
        print("parent unharmed, child", os.waitstatus_to_exitcode(status))

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    motet.run(main())
"""

RUN_OWN = """
        async def own():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"line\\n")
            assert await reader.readline() == b"line\\n"
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            await asyncio.to_thread(print, "child", flush=True)
"""


@pytest.mark.parametrize(
    ("child", "said", "status"),
    [
        (RUN_OWN + "        motet.run(own()); os._exit(5)", "child\n", 5),
        (RUN_OWN + "        asyncio.run(own()); os._exit(6)", "child\n", 6),
        ("os._exit(7)", "", 7),
        pytest.param(
            "sys.exit(8)",
            "",
            8,
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 14),
                reason="from 3.14 on a forked child loses the SystemExit of a task, on any loop",
            ),
        ),
    ],
    ids=["motet", "asyncio", "exit at once", "exit with the inherited loop"],
)
def test_a_child_goes_its_own_way(run_program: RunProgram, child: str, said: str, status: int) -> None:
    ended = run_program(PARENT.format(child=child.strip("\n").lstrip()))
    assert ended.stdout == f"{said}parent unharmed, child {status}\n", ended.stderr
    assert ended.returncode == 0


def test_the_childs_watchdog_works(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, os, time, warnings, motet

        warnings.simplefilter("ignore", DeprecationWarning)

        async def block():
            time.sleep(0.3)

        def places():
            loop = motet.new_event_loop()
            loop.blocked_threshold = 0.05
            loop.run_until_complete(block())
            blocked = loop.statistics()["blocked"]
            loop.close()
            return [place["function"] for place in blocked]

        assert places() == ["block"]
        process = os.fork()
        found = places()
        if process == 0:
            os._exit(0 if found == ["block"] else 1)
        _, status = os.waitpid(process, 0)
        print(found, os.waitstatus_to_exitcode(status))
    """)
    assert ended.stdout == "['block'] 0\n", ended.stderr


def test_a_signal_to_the_child_is_not_the_parents(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, os, signal, time, warnings, motet

        warnings.simplefilter("ignore", DeprecationWarning)
        called = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, called.append, 1)
            process = os.fork()
            if process == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.01)
                os._exit(0)
            await asyncio.to_thread(os.waitpid, process, 0)
            await asyncio.sleep(0.05)

        motet.run(main())
        print(called)
    """)
    assert ended.stdout == "[]\n", ended.stderr


def test_a_fork_while_the_watchdog_is_made(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, faulthandler, os, signal, threading, warnings, motet

        warnings.simplefilter("ignore", DeprecationWarning)
        register = faulthandler.register
        inside, forked = threading.Event(), threading.Event()

        def register_slowly(*arguments, **keywords):
            inside.set()
            forked.wait()
            register(*arguments, **keywords)

        faulthandler.register = register_slowly
        thread = threading.Thread(target=lambda: motet.run(asyncio.sleep(0)))
        thread.start()
        inside.wait()
        process = os.fork()
        if process == 0:
            signal.alarm(20)
            faulthandler.register = register
            motet.run(asyncio.sleep(0))
            os._exit(3)
        forked.set()
        thread.join()
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status))
    """)
    assert ended.stdout == "3\n", ended.stderr


def test_children_reach_a_loop_that_other_threads_wake(run_program: RunProgram) -> None:
    # On one processor a thread is often interrupted just where it has woken the loop.
    ended = run_program("""
        import asyncio, os, signal, threading, warnings, motet

        warnings.simplefilter("ignore", DeprecationWarning)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        loop = motet.new_event_loop()
        running = threading.Event()

        async def read_on():
            running.set()
            while True:
                await asyncio.gather(*(motet.read_bytes("/dev/null") for _ in range(2)))

        reading = loop.create_task(read_on())
        thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait([reading])))
        thread.start()
        running.wait()
        ends = set()
        for _ in range(200):
            process = os.fork()
            if process == 0:
                signal.alarm(20)
                loop.call_soon_threadsafe(int)
                os._exit(0)
            ends.add(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        loop.call_soon_threadsafe(reading.cancel)
        thread.join()
        loop.close()
        print(ends)
    """)
    assert ended.stdout == "{0}\n", ended.stderr
