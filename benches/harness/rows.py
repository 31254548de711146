"""The names of sections, rows and columns, shared by what measures, what judges and what prints."""

from typing import Final

MICRO: Final = "micro"
PROTOCOL: Final = "protocol"
STREAMS: Final = "streams"
SOCK: Final = "sock"
THROUGHPUT: Final = "throughput"
MEMORY: Final = "memory"
WATCHDOG: Final = "watchdog"
TLS: Final = "tls"
TLS_THROUGHPUT: Final = "tls-throughput"
TLS_MEMORY: Final = "tls-memory"
HANDSHAKES: Final = "handshakes"
NATIVE_STREAMS: Final = "native-streams"
READLINE: Final = "readline"
NATIVE_TASKS: Final = "native-tasks"
WEB: Final = "web"
START: Final = "start"
THREADS: Final = "threads"
DATAGRAMS: Final = "datagrams"
SECTIONS: Final = (
    MICRO,
    PROTOCOL,
    STREAMS,
    SOCK,
    THROUGHPUT,
    MEMORY,
    WATCHDOG,
    TLS,
    TLS_THROUGHPUT,
    TLS_MEMORY,
    HANDSHAKES,
    NATIVE_STREAMS,
    READLINE,
    NATIVE_TASKS,
    WEB,
    START,
    THREADS,
    DATAGRAMS,
)
ECHO_SECTIONS: Final = (PROTOCOL, STREAMS, SOCK, TLS, HANDSHAKES, NATIVE_STREAMS, READLINE, WEB, DATAGRAMS)
RATE_SECTIONS: Final = (THROUGHPUT, TLS_THROUGHPUT, HANDSHAKES)
TLS_SECTIONS: Final = (TLS, TLS_THROUGHPUT, TLS_MEMORY, HANDSHAKES)

CHAIN: Final = "call_soon chain"
BULK: Final = "call_soon in bulk"
SLEEP: Final = "await sleep(0)"
CREATE_TASK: Final = "create_task + await"
GATHER: Final = "gather of 1,000"
QUEUES: Final = "Queue ping-pong"
TIMER: Final = "call_later + cancel"
THREADSAFE_OWN: Final = "call_soon_threadsafe, own thread"
THREADSAFE_OTHER: Final = "call_soon_threadsafe, other thread"
MICRO_ROWS: Final = (
    CHAIN,
    BULK,
    SLEEP,
    CREATE_TASK,
    GATHER,
    QUEUES,
    TIMER,
    THREADSAFE_OWN,
    THREADSAFE_OTHER,
)
TASK_ROWS: Final = (SLEEP, CREATE_TASK, GATHER, QUEUES)

ECHO_SIZE: Final = 1024
ECHO_CONNECTIONS: Final = (1, 64, 1024)
THROUGHPUT_SIZES: Final = {"64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}
THROUGHPUT_CONNECTIONS: Final = 8
IDLE_CONNECTIONS: Final = 10_000
MANY_CONNECTIONS: Final = 64
IDLE_TLS_CONNECTIONS: Final = 5_000
TLS_THROUGHPUT_ROW: Final = "1 MiB"
HANDSHAKES_AT_ONCE: Final = 16
HANDSHAKES_ROW: Final = f"{HANDSHAKES_AT_ONCE} at once"

# Datagrams of one batch, and how many clients send them: as many are under way in both rows.
DATAGRAM_BATCHES: Final = {"batches of 1": (1, 64), "batches of 64": (64, 1)}

AIOHTTP: Final = "aiohttp"
UVICORN: Final = "uvicorn"
WEB_ROWS: Final = (AIOHTTP, UVICORN)
HTTP_BODY: Final = "Hello, world!"

IMPORT: Final = "import (plain: asyncio)"
EMPTY_PROGRAM: Final = "motet run (plain: python), empty program"
START_ROWS: Final = (IMPORT, EMPTY_PROGRAM)
PLAIN: Final = "plain Python"

ONE_LOOP: Final = "one loop"
TWO_LOOPS: Final = "two loops"

FLOOR: Final = "floor"
WATCHDOG_ON: Final = "watchdog on"
WATCHDOG_OFF: Final = "watchdog off"

NANOSECONDS: Final = "ns"
USER: Final = "user_us"
SYSTEM: Final = "system_us"
CPU: Final = "cpu_us"
REQUESTS_PER_SECOND: Final = "requests_per_second"
P50: Final = "p50_us"
P99: Final = "p99_us"
MIB_PER_SECOND: Final = "mib_per_second"
KIB_PER_CONNECTION: Final = "kib_per_connection"
CLIENT_BUSY: Final = "client_busy"
MILLISECONDS: Final = "ms"


def connections(count: int) -> str:
    """Name the row for a number of connections."""
    return f"{count:,} connection{'' if count == 1 else 's'}"
