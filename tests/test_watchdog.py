"""The watchdog: it names the function, file and line that hold the loop, and leaves the program alone."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import motet
import pytest
from conftest import RunProgram

pytestmark = pytest.mark.thread_unsafe(reason="other threads that hold the GIL look like blocks")


def be_asleep(seconds: float) -> None:
    time.sleep(seconds)


def match_for_ever(length: int) -> None:
    re.match(r"(a+)+$", "a" * length + "b")


def line_of(text: str) -> int:
    """The first line of this file that has a text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


def blocks_of(*callbacks: Any, threshold: float = 0.05) -> list[dict[str, Any]]:
    """What a loop has recorded after it has run the callbacks."""
    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = threshold
        for callback in callbacks:
            loop.call_soon(*callback)
        loop.run_until_complete(asyncio.sleep(0.01))
        blocked: list[dict[str, Any]] = loop.statistics()["blocked"]
        return blocked


def test_a_callback_that_sleeps_is_named() -> None:
    (block,) = blocks_of((be_asleep, 0.4))
    assert block["function"] == "be_asleep"
    assert block["file"] == __file__
    assert block["line"] == line_of("time.sleep(seconds)")
    assert block["ended"] is True
    # The beginning is known to a quarter of the threshold.
    assert 0.3 < block["seconds"] < 30
    assert block["stack"][0] == ("be_asleep", __file__, block["line"])


def test_a_call_that_holds_the_gil_is_named() -> None:
    length = 18
    while True:
        began = time.perf_counter()
        match_for_ever(length)
        if time.perf_counter() - began > 0.3:
            break
        length += 1
    blocks = blocks_of((match_for_ever, length))
    assert blocks
    places = [frame[:2] for frame in blocks[0]["stack"]]
    assert ("match_for_ever", __file__) in places
    assert blocks[0]["seconds"] > 0.1


def test_a_task_and_its_callers_are_named() -> None:
    async def inner() -> None:
        be_asleep(0.3)

    async def outer() -> None:
        await inner()

    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = 0.05
        loop.run_until_complete(outer())
        blocks = loop.statistics()["blocked"]
    functions = [frame[0] for frame in blocks[0]["stack"]]
    assert functions[0] == "be_asleep"
    assert [name for name in functions if name in ("inner", "outer")] == ["inner", "outer"]


def test_a_protocol_method_is_named() -> None:
    class Slow(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            be_asleep(0.3)

    async def main() -> None:
        here, there = socket.socketpair()
        with there:
            transport, _ = await asyncio.get_running_loop().create_connection(Slow, sock=here)
            there.send(b"data")
            await asyncio.sleep(0.02)
            transport.close()
            await asyncio.sleep(0.01)

    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = 0.05
        loop.run_until_complete(main())
        (block,) = loop.statistics()["blocked"]
    assert [frame[0] for frame in block["stack"]][:2] == ["be_asleep", "data_received"]


def test_several_blocks_come_longest_first() -> None:
    blocks = blocks_of((be_asleep, 0.2), (be_asleep, 0.6), (be_asleep, 0.001))
    assert len(blocks) == 2
    assert blocks[0]["seconds"] > blocks[1]["seconds"] > 0.1


def test_waiting_is_no_block() -> None:
    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = 0.05
        loop.run_until_complete(asyncio.sleep(0.3))
        assert loop.statistics()["blocked"] == []


def test_many_short_callbacks_are_no_block() -> None:
    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = 0.2
        end = loop.time() + 0.5

        async def be_busy() -> None:
            while loop.time() < end:  # noqa: ASYNC110, busy on purpose
                await asyncio.sleep(0)

        loop.run_until_complete(be_busy())
        assert loop.statistics()["blocked"] == []


def test_zero_switches_it_off() -> None:
    assert blocks_of((be_asleep, 0.3), threshold=0) == []


@pytest.mark.parametrize("threshold", [-1, 1e9, float("nan"), float("inf")])
def test_thresholds_that_make_no_sense(threshold: float) -> None:
    with closing(motet.new_event_loop()) as loop:
        assert loop.blocked_threshold == 0.1
        with pytest.raises(ValueError, match="blocked_threshold must be between 0"):
            loop.blocked_threshold = threshold
        assert loop.blocked_threshold == 0.1


def test_a_sleep_is_not_cut_short() -> None:
    took: list[float] = []

    def sleep() -> None:
        began = time.monotonic()
        time.sleep(0.4)
        took.append(time.monotonic() - began)

    assert blocks_of((sleep,))
    assert took[0] >= 0.4


def test_a_block_is_seen_while_it_lasts() -> None:
    async def main() -> None:
        be_asleep(0.3)
        # The statistics are asked for by the very callback that blocks.
        seen.extend(asyncio.get_running_loop().statistics()["blocked"])  # type: ignore[attr-defined]

    seen: list[dict[str, Any]] = []
    with closing(motet.new_event_loop()) as loop:
        loop.blocked_threshold = 0.05
        loop.run_until_complete(main())
    (block,) = seen
    assert block["ended"] is False
    assert block["function"] == "be_asleep"


def test_the_programs_own_use_of_faulthandler_goes_on(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, faulthandler, os, signal, sys, tempfile, time, motet

        dump = tempfile.TemporaryFile("w+")
        faulthandler.enable(dump)
        faulthandler.register(signal.SIGUSR1, dump, all_threads=False)
        handled = []
        signal.signal(signal.SIGUSR2, lambda *_: handled.append(1))

        def block_here():
            time.sleep(0.3)

        async def main():
            block_here()
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0)

        loop = motet.new_event_loop()
        loop.blocked_threshold = 0.05
        loop.run_until_complete(main())
        assert [block["function"] for block in loop.statistics()["blocked"]] == ["block_here"]
        loop.close()
        assert faulthandler.is_enabled()
        assert handled == [1]
        dump.seek(0)
        text = dump.read()
        assert "in main" in text and "block_here" not in text, text
        assert faulthandler.unregister(signal.SIGUSR1)
        faulthandler.disable()
        print("unharmed")
    """)
    assert (ended.stdout, ended.stderr) == ("unharmed\n", "")


def test_handlers_of_real_time_signals_are_left_alone(run_program: RunProgram) -> None:
    ended = run_program("""
        import asyncio, os, signal, time, motet

        handled = []
        signals = list(range(signal.SIGRTMAX - 3, signal.SIGRTMAX + 1))
        for number in signals:
            signal.signal(number, lambda number, frame: handled.append(number))

        async def main():
            time.sleep(0.3)
            for number in signals:
                os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)

        loop = motet.new_event_loop()
        loop.blocked_threshold = 0.05
        loop.run_until_complete(main())
        assert len(loop.statistics()["blocked"]) == 1
        loop.close()
        print(sorted(handled) == signals)
    """)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_a_function_that_is_over_and_frees_much_is_no_danger(run_program: RunProgram) -> None:
    """The innermost frame is then the interpreter's own, without code."""
    ended = run_program("""
        import asyncio, motet

        async def hold_much():
            kept = [float(number) for number in range(4_000_000)]
            await asyncio.sleep(0)

        async def main():
            for _ in range(4):
                await asyncio.create_task(hold_much())

        loop = motet.new_event_loop()
        loop.blocked_threshold = 0.01
        loop.run_until_complete(main())
        loop.close()
        print(len(loop.statistics()["blocked"]) > 0)
    """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")
