"""The names of the sections, rows and quantities, and how much of everything a row takes."""

from dataclasses import dataclass
from typing import Final

from harness.pools.contenders import (
    BARE,
    DASK,
    FORK,
    FORKSERVER,
    JOBLIB,
    LOKY,
    MOTET,
    MOTET_THREADS,
    POOL,
    POOLS,
    RAY,
    THREADS,
)

CALLS: Final = "calls"
MAP: Final = "map"
ARRAYS: Final = "arrays"
START: Final = "start"
RECOVERY: Final = "recovery"
QUEUED: Final = "queued"
CPU: Final = "cpu"
SECTIONS: Final = (CALLS, MAP, ARRAYS, START, RECOVERY, QUEUED, CPU)

# How many workers every pool has.
WORKERS: Final = 2

NO_OP: Final = "no-op calls, calls/s"
DICTIONARIES: Final = "dictionaries of 1 KiB each way, calls/s"
ROUND_TRIP: Final = "round trip, µs"
MILLION: Final = "a million tiny calls, calls/s"
ARRAY_IN: Final = "argument of 100 MB, ms"
ARRAY_OUT: Final = "result of 100 MB, ms"
BORN_IN: Final = "argument born shared, ms"
BORN_OUT: Final = "result born shared, ms"
FRESH: Final = "first pool of a process, ms"
SECOND: Final = "second pool of a process, ms"
KILLED: Final = "full speed after kill -9, ms"
PER_CALL: Final = "parent's memory, bytes per queued call"
SPEEDUP: Final = "work of 1 ms, times serial"
EFFICIENCY: Final = "work of 1 ms, part of bare processes' pace"

CALLS_PER_SECOND: Final = "calls_per_second"
MICROSECONDS: Final = "us"
MILLISECONDS: Final = "ms"
BYTES: Final = "bytes"
TIMES: Final = "times"
PART: Final = "part"


@dataclass(frozen=True)
class Row:
    """One column of a section's table: what is measured, of whom, and about how long that takes."""

    section: str
    name: str
    quantity: str
    contenders: tuple[str, ...]
    seconds: float


WORKING = (THREADS, FORK, POOL, LOKY, JOBLIB, DASK, RAY, MOTET, MOTET_THREADS)
SUBMITTING = tuple(pool for pool in POOLS if pool not in (MOTET_THREADS, BARE))

ROWS: Final = (
    Row(CALLS, NO_OP, CALLS_PER_SECOND, SUBMITTING, 3.0),
    Row(CALLS, ROUND_TRIP, MICROSECONDS, SUBMITTING, 2.0),
    Row(CALLS, DICTIONARIES, CALLS_PER_SECOND, SUBMITTING, 4.0),
    Row(MAP, MILLION, CALLS_PER_SECOND, (POOL, JOBLIB, MOTET), 6.0),
    Row(ARRAYS, ARRAY_IN, MILLISECONDS, SUBMITTING, 5.0),
    Row(ARRAYS, ARRAY_OUT, MILLISECONDS, SUBMITTING, 5.0),
    Row(ARRAYS, BORN_IN, MILLISECONDS, (MOTET,), 1.0),
    Row(ARRAYS, BORN_OUT, MILLISECONDS, (MOTET,), 1.0),
    Row(START, FRESH, MILLISECONDS, SUBMITTING, 1.5),
    Row(START, SECOND, MILLISECONDS, SUBMITTING, 2.0),
    Row(RECOVERY, KILLED, MILLISECONDS, (FORK, POOL, LOKY, MOTET), 4.0),
    Row(QUEUED, PER_CALL, BYTES, (THREADS, FORK, FORKSERVER, POOL, LOKY, MOTET), 30.0),
    Row(CPU, SPEEDUP, TIMES, (*WORKING, BARE), 3.0),
    Row(CPU, EFFICIENCY, PART, WORKING, 3.0),
)
# Memory hardly differs from round to round, and a million calls take their time.
ONE_ROUND: Final = (QUEUED,)


@dataclass(frozen=True)
class Sizes:
    """How much of everything: for a measurement's length, and for what is passed."""

    seconds: float
    items: int
    array_bytes: int
    array_samples: int
    dictionaries: int
    queued: int
    kill_seconds: float
    work_calls: int


FULL: Final = Sizes(1.0, 1_000_000, 100_000_000, 7, 10_000, 1_000_000, 2.5, 400)
QUICK: Final = Sizes(0.05, 20_000, 8_000_000, 3, 500, 5_000, 1.2, 50)
