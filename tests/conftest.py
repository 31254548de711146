"""What the tests of behaviour share: both makes of loop, and programs in processes of their own."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator

import motet
import pytest

pytest.register_assert_rewrite("clean_run")

MakeLoop = Callable[[], asyncio.AbstractEventLoop]
RunProgram = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=[asyncio.new_event_loop, motet.new_event_loop], ids=["asyncio", "motet"])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    """What makes a loop: asyncio's own, then motet's, for what must not differ."""
    maker: MakeLoop = request.param
    return maker


@pytest.fixture(params=["asyncio", "native", "memory-bio"])
def make_tls_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeLoop:
    """What makes a loop: asyncio's own, then motet's with either way of TLS."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    monkeypatch.setenv("MOTET_TLS", request.param)
    return motet.new_event_loop


@pytest.fixture(autouse=True)
def collected_before_python_3_12() -> Iterator[None]:
    """Collects what a test has left, without warnings, where `Server.wait_closed()` waits for no connection.

    Tests close their servers and wait; before Python 3.12 connections may outlive that, and would be found
    in a later test.
    """
    yield
    if sys.version_info < (3, 12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def run_program() -> RunProgram:
    """Runs a program text in a new interpreter."""

    def run(source: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Spares the collector what earlier tests have imported: it sees what this test makes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
