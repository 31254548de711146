"""Ctrl-C ends a wait for a call whenever it comes, also as the wait begins."""

from __future__ import annotations

import pytest
from conftest import RunProgram

pytestmark = pytest.mark.thread_unsafe(reason="signals belong to the main thread")

# A thread interrupts the main thread at random moments around the beginning of its waits. A wait that
# overlooks that never ends, as its call does not.
PROGRAM = """
    import os, random, signal, sys, threading, time, motet

    ROUNDS = 60
    place, wait = sys.argv[1:]
    generator = random.Random(20261122)
    turn, begun = threading.Event(), threading.Event()

    def interrupt():
        for _ in range(ROUNDS):
            turn.wait()
            turn.clear()
            until = time.perf_counter() + generator.random() * 100e-6
            begun.set()
            while time.perf_counter() < until:
                pass
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    executor = motet.Executor(place, 1)
    future = executor.submit(time.sleep, 1000) if place == "processes" else motet.CallFuture()
    if wait == "condition":
        future._condition
    caught = 0
    while caught < ROUNDS:
        try:
            turn.set()
            begun.wait()
            begun.clear()
            future.result(*([1000] if wait == "timeout" else []))
        except KeyboardInterrupt:
            caught += 1
    print(caught)
    executor.shutdown(kill=True)
"""


@pytest.mark.parametrize("wait", ["plain", "timeout", "condition"])
def test_no_interruption_is_overlooked(run_program: RunProgram, wait: str) -> None:
    ended = run_program(PROGRAM, "processes", wait, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "60\n"), ended.stderr
