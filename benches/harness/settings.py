"""What one run measures, for how long, and where."""

import os
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
# The environment variable that tells TLS servers the file of their certificate and key.
CERTIFICATE = "MOTET_BENCH_CERTIFICATE"


@dataclass(frozen=True)
class Settings:
    """The choices of the command line, and the processors that server and client keep apart on."""

    sections: tuple[str, ...]
    loops: tuple[str, ...]
    rounds: int
    seconds: float
    micro_seconds: float
    idle_connections: int
    idle_tls_connections: int
    server_cpu: int
    client_cpu: int
    certificate: Path

    @property
    def warm_up(self) -> float:
        """How long a client runs before it measures."""
        return min(0.4, self.seconds)


def processors() -> tuple[int, int]:
    """Choose a processor for servers and one for clients; with only one, both share it."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]
