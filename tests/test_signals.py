"""Signals: `add_signal_handler`, Ctrl-C as `asyncio.run` treats it, and the program's own handlers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import closing

import pytest
from conftest import MakeLoop, RunProgram

pytestmark = pytest.mark.thread_unsafe(reason="signals belong to the main thread")


def test_a_handler_is_called_by_the_loop(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        called: list[str] = []
        loop.add_signal_handler(signal.SIGUSR1, called.append, "first")
        loop.add_signal_handler(signal.SIGUSR1, called.append, "second")
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(asyncio.sleep(0.02))
        assert called == ["second"]
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_sleeping_loop_hears_a_signal(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        sender = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
        sender.start()
        loop.run_forever()
        sender.join()


def test_a_plain_handler_is_called_while_the_loop_sleeps(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        called: list[int] = []

        def handle(number: int, frame: object) -> None:
            called.append(number)
            loop.call_soon_threadsafe(loop.stop)

        before = signal.signal(signal.SIGUSR2, handle)
        sender = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR2])
        sender.start()
        loop.run_forever()
        sender.join()
        signal.signal(signal.SIGUSR2, before)
    assert called == [signal.SIGUSR2]


def test_a_signal_between_two_runs_is_kept(make_loop: MakeLoop) -> None:
    with closing(make_loop()) as loop:
        called: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, called.append, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(asyncio.sleep(0.01))
        assert called == [1]


def test_closing_removes_the_handlers(make_loop: MakeLoop) -> None:
    loop = make_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_the_wakeup_descriptor_of_the_program_is_restored(make_loop: MakeLoop) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        with closing(make_loop()) as loop:
            loop.run_until_complete(asyncio.sleep(0))
            assert signal.set_wakeup_fd(writer) == writer
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def test_wrong_calls(make_loop: MakeLoop) -> None:
    async def coroutine_function() -> None:
        """Never called."""

    with closing(make_loop()) as loop:
        with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
            loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
        with pytest.raises(TypeError, match="sig must be an int, not 'name'"):
            loop.add_signal_handler("name", print)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="invalid signal number 1000"):
            loop.add_signal_handler(1000, print)
        with pytest.raises(ValueError, match="invalid signal number 1000"):
            loop.remove_signal_handler(1000)
        with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)


def test_other_threads_cannot_add_handlers(make_loop: MakeLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="main thread"):
            loop.add_signal_handler(signal.SIGUSR1, print)

    def run() -> None:
        with closing(make_loop()) as loop:
            loop.run_until_complete(main())
            passed.append(True)

    passed: list[bool] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert passed == [True]


INTERRUPTED = """
    import asyncio, os, signal, sys, threading, motet

    async def main():
        try:
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
            {body}
        except asyncio.CancelledError:
            print("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            print("cleaned up")

    try:
        motet.run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize(
    "body",
    [
        "await asyncio.sleep(60)",
        "await asyncio.Event().wait()",
        "while True: await asyncio.sleep(0)",
        "await asyncio.gather(asyncio.sleep(60), asyncio.sleep(61))",
    ],
)
def test_control_c_cancels_the_main_task(run_program: RunProgram, body: str) -> None:
    ended = run_program(INTERRUPTED.format(body=body))
    assert ended.stdout == "cancelled\ncleaned up\ninterrupted\n", ended.stderr
    assert ended.returncode == 0


def test_an_uncaught_control_c_ends_the_process_by_the_signal(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, os, signal, threading, motet
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        motet.run(asyncio.sleep(60))
    """)
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")


def test_control_c_ends_a_plain_run_forever(run_program: RunProgram) -> None:
    ended = run_program("""
        import os, signal, threading, motet
        loop = motet.new_event_loop()
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", loop.is_running())
        loop.close()
    """)
    assert ended.stdout == "interrupted False\n", ended.stderr


def test_a_second_control_c_ends_what_does_not_heed_the_first(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, os, signal, threading, motet

        async def main():
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
                while True:
                    pass

        try:
            motet.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert ended.stdout == "interrupted\n", ended.stderr
