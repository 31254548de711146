"""Echo on one event loop or on several, each in a thread of its own; prints messages per second as JSON.

Each loop carries both ends of its connections, so that the processors which the loops are to fill need not be
shared with a client. No object is shared between the threads but the barrier at which they start.
"""

import argparse
import asyncio
import json
import os
import sys
import threading
from time import perf_counter

from harness import loops, rows

CONNECTIONS = 32
START_LIMIT = 30.0


class Echo(asyncio.Protocol):
    """Writes back whatever arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; it is the one of `create_server`, which can write."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Echo one piece."""
        self.transport.write(data)


class Client(Echo):
    """Sends a message whenever the one before has come back, and compares it."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.received = b""
        self.count = 0

    def begin(self) -> None:
        """Send the first message."""
        self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        """Compare an echo, and send the next message once it is whole."""
        self.received += data
        if len(self.received) < len(self.message):
            return
        if self.received != self.message:
            raise SystemExit("an echo differs from what was sent")
        self.received = b""
        self.count += 1
        self.transport.write(self.message)


class Worker:
    """One thread with its loop."""

    def __init__(self, loop: str, cpu: int, seconds: float, barrier: threading.Barrier) -> None:
        self.messages_per_second = 0.0
        self.failure: BaseException | None = None
        self._loop = loop
        self._cpu = cpu
        self._seconds = seconds
        self._barrier = barrier
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        os.sched_setaffinity(0, {self._cpu})  # on Linux, of this thread alone
        try:
            loops.new_event_loop(self._loop).run_until_complete(self._measure())
        except BaseException as error:
            self.failure = error
            self._barrier.abort()

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        clients = [
            (await loop.create_connection(lambda: Client(os.urandom(rows.ECHO_SIZE)), "127.0.0.1", port))[1]
            for _ in range(CONNECTIONS)
        ]
        self._barrier.wait(START_LIMIT)
        for client in clients:
            client.begin()
        await asyncio.sleep(self._seconds / 4)
        counted, begin = sum(client.count for client in clients), perf_counter()
        await asyncio.sleep(self._seconds)
        messages, elapsed = sum(client.count for client in clients) - counted, perf_counter() - begin
        self.messages_per_second = messages / elapsed
        # A thread that ended first would leave its processor to the others.
        await asyncio.sleep(self._seconds / 4)


def main() -> None:
    """Run the loops named on the command line and print what they carried together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loop", choices=loops.LOOPS, required=True)
    parser.add_argument("--cpus", required=True, help="a processor for each loop, as in 0,1")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="how long to measure (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        print("this Python has a GIL", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    cpus = [int(cpu) for cpu in arguments.cpus.split(",")]
    loops.new_event_loop(arguments.loop).close()
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        print(f"{arguments.loop} turns the GIL on", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    barrier = threading.Barrier(len(cpus))
    workers = [Worker(arguments.loop, cpu, arguments.seconds, barrier) for cpu in cpus]
    for worker in workers:
        worker.thread.start()
    for worker in workers:
        worker.thread.join()
    for worker in workers:
        if worker.failure is not None and not isinstance(worker.failure, threading.BrokenBarrierError):
            raise worker.failure
    print(json.dumps({rows.REQUESTS_PER_SECOND: sum(worker.messages_per_second for worker in workers)}))


if __name__ == "__main__":
    main()
