"""The names of sections, rows and columns, shared by what measures, what judges and what prints."""

from typing import Final

MICRO: Final = "micro"
PROTOCOL: Final = "protocol"
STREAMS: Final = "streams"
NATIVE_STREAMS: Final = "native-streams"
READLINE: Final = "readline"
SOCK: Final = "sock"
THROUGHPUT: Final = "throughput"
MEMORY: Final = "memory"
WATCHDOG: Final = "watchdog"
ECHO_SECTIONS: Final = (PROTOCOL, STREAMS, NATIVE_STREAMS, READLINE, SOCK)
SECTIONS: Final = (MICRO, *ECHO_SECTIONS, THROUGHPUT, MEMORY, WATCHDOG)

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

ECHO_SIZE: Final = 1024
ECHO_CONNECTIONS: Final = (1, 64, 1024)
THROUGHPUT_SIZES: Final = {"64 KiB": 64 * 1024, "1 MiB": 1024 * 1024}
THROUGHPUT_CONNECTIONS: Final = 8
WATCHDOG_CONNECTIONS: Final = 64
IDLE_CONNECTIONS: Final = 10_000

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


def connections(count: int) -> str:
    """Name the row for a number of connections."""
    return f"{count:,} connection{'' if count == 1 else 's'}"
