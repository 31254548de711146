"""The resident memory of a server for each idle connection."""

import contextlib
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import rows
from harness.processes import MeasurementFailed, Server
from harness.settings import Settings

WARM_UP_CONNECTIONS = 64
BATCH = 500
# What each connection through TLS carries before it is idle.
MESSAGE = bytes(range(256)) * (rows.ECHO_SIZE // 256)
MESSAGES = 4
LIMIT = 30.0
SETTLED_AFTER = 0.3
SPARE_DESCRIPTORS = 200
# Closing with a reset leaves no port behind in TIME_WAIT: ten thousand a round would use all of them up.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def raise_descriptor_limit(wanted: int) -> int:
    """Raise this process's limit as far as it may and return how many of the wanted connections fit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - SPARE_DESCRIPTORS)


def idle(loop: str, style: str, settings: Settings) -> dict[str, float]:
    """Hold idle connections and return what each adds to the server's resident memory.

    Some connections are answered before, so that code and tables which a server touches only once are part of
    the first reading; they stay open, so that none of the idle ones gets their memory. Through TLS every
    connection has carried some messages before it is idle.
    """
    secured = style == rows.TLS
    count = settings.idle_tls_connections if secured else settings.idle_connections
    context = _client_context() if secured else None
    with Server(loop, style, settings) as server, contextlib.ExitStack() as stack:
        for connection in _connect(server, WARM_UP_CONNECTIONS, stack, context):
            _exchange(connection)
        before = _settled_resident(server.pid)
        held = _connect(server, count, stack, context)
        after = _settled_resident(server.pid)
        _exchange(held[0])
        _exchange(held[-1])
        return {rows.KIB_PER_CONNECTION: (after - before) / count, "before_kib": before, "after_kib": after}


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(
    server: Server, count: int, stack: contextlib.ExitStack, context: ssl.SSLContext | None
) -> list[socket.socket]:
    """Open connections in batches, each once the server has accepted the one before."""
    there = _descriptors(server.pid)
    opened: list[socket.socket] = []
    while len(opened) < count:
        for _ in range(min(BATCH, count - len(opened))):
            try:
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                if context is not None:
                    connection = context.wrap_socket(connection)
            except OSError as error:
                raise MeasurementFailed(f"connection {len(opened) + 1} of {count} failed: {error}") from error
            opened.append(stack.enter_context(connection))
            for _ in range(MESSAGES if context is not None else 0):
                _exchange(connection, MESSAGE)
        wanted = there + len(opened)
        _wait(partial(_holds, server.pid, wanted), f"accept {count} connections")
    return opened


def _exchange(connection: socket.socket, message: bytes = b"?") -> None:
    answer = b""
    try:
        connection.sendall(message)
        while len(answer) < len(message) and (piece := connection.recv(len(message))):
            answer += piece
    except OSError as error:
        raise MeasurementFailed(f"an idle connection was not answered: {error}") from error
    if answer != message:
        raise MeasurementFailed(f"an idle connection got {answer[:16]!r} back for {message[:16]!r}")


def _holds(process: int, wanted: int) -> bool:
    return _descriptors(process) >= wanted


def _descriptors(process: int) -> int:
    count = len(os.listdir(f"/proc/{process}/fd"))
    if not count:
        raise MeasurementFailed("the server is gone")
    return count


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"the server did not {what} within {LIMIT:.0f} seconds")
        time.sleep(0.005)


def _settled_resident(process: int) -> int:
    """Return the resident memory once it has stopped changing."""
    last, since = _resident(process), time.monotonic()
    deadline = since + LIMIT
    while time.monotonic() - since < SETTLED_AFTER:
        time.sleep(0.05)
        now = _resident(process)
        if now != last:
            last, since = now, time.monotonic()
        if since > deadline:
            raise MeasurementFailed(f"the server's memory did not settle within {LIMIT:.0f} seconds")
    return last


def _resident(process: int) -> int:
    """Return kibibytes; `smaps_rollup` counts pages, where `status` shows an approximate counter."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise MeasurementFailed("the kernel does not tell the server's resident memory")
