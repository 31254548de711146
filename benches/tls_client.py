"""The load of TLS servers: echoes, or connections opened and closed; prints what the server spent, as JSON.

Plain blocking sockets of the standard library in one thread: each round sends on all connections and then
receives on all. The same client for every server; what counts is the processor time of the server's process.
"""

import argparse
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

AUTHORITY = Path(__file__).parent.parent / "tests" / "certificates" / "authority.pem"
LIMIT = 60.0


def server_seconds(process: int) -> tuple[float, float]:
    """Return the processor time of a process so far: user, system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Open a connection and shake hands."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost")


def echoes(port: int, context: ssl.SSLContext, connections: int, size: int) -> Iterator[int]:
    """Send and receive `size` bytes on all connections, again and again; yields how many did."""
    opened = [connect(port, context) for _ in range(connections)]
    message, buffer = b"m" * size, bytearray(size)
    while True:
        for connection in opened:
            connection.sendall(message)
        for connection in opened:
            received = 0
            while received < size:
                count = connection.recv_into(memoryview(buffer)[received:])
                if not count:
                    raise ConnectionError("the server has closed a connection")
                received += count
        yield len(opened)


def handshakes(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Open a connection, exchange one byte and close it, again and again; yields 1 for each."""
    while True:
        with connect(port, context) as connection:
            connection.sendall(b"?")
            connection.recv(1)
            yield 1


def run(
    work: Iterator[int], seconds: float, warm_up: float, spent: Callable[[], tuple[float, float]]
) -> dict[str, float]:
    """Do the work for so long and return what it took."""
    end = time.monotonic() + warm_up
    while time.monotonic() < end:
        next(work)
    done, began, before = 0, time.monotonic(), spent()
    while (passed := time.monotonic() - began) < seconds:
        done += next(work)
    user, system = (after - then for after, then in zip(spent(), before, strict=True))
    return {
        "requests_per_second": done / passed,
        "user_us": user / done * 1e6,
        "system_us": system / done * 1e6,
        "cpu_us": (user + system) / done * 1e6,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64, help="0: open and close one after the other")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--cpu", type=int, help="run on this processor only")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    trust = ssl.create_default_context(cafile=AUTHORITY)
    if arguments.connections:
        load = echoes(arguments.port, trust, arguments.connections, arguments.size)
    else:
        load = handshakes(arguments.port, trust)
    spent = partial(server_seconds, arguments.server_pid)
    print(json.dumps(run(load, arguments.seconds, arguments.warm_up, spent)))
