"""What the tests of behaviour share: both makes of loop, and programs in processes of their own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable

import motet
import pytest

MakeLoop = Callable[[], asyncio.AbstractEventLoop]
RunProgram = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=[asyncio.new_event_loop, motet.new_event_loop], ids=["asyncio", "motet"])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    """What makes a loop: asyncio's own, then motet's, for what must not differ."""
    maker: MakeLoop = request.param
    return maker


@pytest.fixture
def run_program() -> RunProgram:
    """Runs a program text in a new interpreter."""

    def run(source: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return run
