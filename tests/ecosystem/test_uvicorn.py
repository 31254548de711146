"""uvicorn as a command, with motet's loop by its own option; aiohttp asks."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import motet
import pytest
import tls_contexts
from clean_run import run_clean
from conftest import MakeLoop

from .conftest import LARGE, Transport
from .services import free_port

LOOPS = {motet.new_event_loop: "motet:new_event_loop", asyncio.new_event_loop: "asyncio"}
pytestmark = pytest.mark.thread_unsafe(reason="counts the process's descriptors")


@contextmanager
def serving(
    loop: str, implementation: str, transport: Transport, folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """uvicorn with the application, at a port; it must end well when told to."""
    port, errors = free_port(), folder / "errors"
    command = [sys.executable, "-X", "dev", "-m", "uvicorn", f"{__package__}.application:application"]
    command += ["--loop", loop, "--http", implementation, "--ws", "websockets-sansio", "--port", str(port)]
    command += ["--app-dir", str(Path(__file__).parent.parent)]
    if transport.server is not None:
        certificate, key, _ = tls_contexts.write_files(folder)
        command += ["--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)]
    with errors.open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            yield process, port
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=60)[0].decode()
        except BaseException:
            process.kill()
            print(errors.read_text())
            raise
    said = errors.read_text()
    assert "shut down" in output
    assert output.count("given up") == 2
    assert said.count("RuntimeError: there is nothing at this path") == 1, said
    for complaint in ("ResourceWarning", "never awaited", "never retrieved"):
        assert complaint not in said, said


@pytest.mark.parametrize("implementation", ["h11", "httptools"])
def test_the_command(make_loop: MakeLoop, implementation: str, transport: Transport, tmp_path: Path) -> None:
    async def main() -> None:
        # What runs is the server; the client is the same for both.
        connector = aiohttp.TCPConnector(ssl=transport.client or True)
        async with aiohttp.ClientSession(transport.url("http", port), connector=connector) as session:
            await wait_until_served(session)
            assert await ask(session, "/loop") == LOOPS[make_loop].partition(":")[0].encode()
            bodies = [b"%d" % number * number for number in range(40)] + [LARGE]
            assert await asyncio.gather(*(ask(session, "/echo", body) for body in bodies)) == bodies
            assert await ask(session, "/pieces") == b"".join(b"%d\n" % n * 1000 for n in range(100))
            assert await ask(session, "/nothing") == b"Internal Server Error"
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/stuck", timeout=aiohttp.ClientTimeout(total=0.05))
            task = asyncio.ensure_future(session.get("/stuck"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with session.ws_connect("/") as connection:
                await connection.send_str("word")
                assert await connection.receive_str() == "WORD"

    async def ask(session: aiohttp.ClientSession, path: str, body: bytes = b"") -> bytes:
        async with session.post(path, data=io.BytesIO(body)) as response:
            return await response.read()

    async def wait_until_served(session: aiohttp.ClientSession) -> None:
        while process.poll() is None:
            try:
                await ask(session, "/loop")
                return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)

    with serving(LOOPS[make_loop], implementation, transport, tmp_path) as (process, port):
        run_clean(asyncio.new_event_loop, main)


@pytest.mark.parametrize(
    "words",
    [
        ["motet", "run", "-m", "uvicorn", "--loop", "none"],
        ["uvicorn", "--loop", "motet:new_event_loop", "--workers", "2"],
    ],
    ids=["motet-run", "workers"],
)
def test_other_ways_to_motets_loop(words: list[str], tmp_path: Path) -> None:
    async def main() -> bytes:
        async with aiohttp.ClientSession() as session:
            while process.poll() is None:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/loop") as response:
                        return await response.read()
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        return b"it has ended"

    port = free_port()
    command = [sys.executable, "-m", *words, f"{__package__}.application:application", "--port", str(port)]
    command += ["--app-dir", str(Path(__file__).parent.parent)]
    with (
        (tmp_path / "said").open("w+b") as said,
        subprocess.Popen(command, stdout=said, stderr=said) as process,
    ):
        try:
            assert asyncio.run(main()) == b"motet"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) in (0, -signal.SIGINT)
        finally:
            process.kill()
        said.seek(0)
        assert b"Traceback" not in said.read()
