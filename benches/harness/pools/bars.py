"""What each row of the pools must reach."""

from harness.bars import ABOVE, AT_LEAST, AT_MOST, BELOW, NOBODY, Bar
from harness.pools import rows
from harness.pools.contenders import FORK, FORKSERVER, MOTET_THREADS, POOL, RAY, THREADS

BARS: tuple[Bar, ...] = (
    Bar(rows.CALLS, rows.NO_OP, rows.CALLS_PER_SECOND, FORK, AT_LEAST, 30.0),
    Bar(rows.CALLS, rows.NO_OP, rows.CALLS_PER_SECOND, THREADS, ABOVE, 1.0),
    Bar(rows.CALLS, rows.ROUND_TRIP, rows.MICROSECONDS, FORK, AT_MOST, 1 / 8),
    Bar(rows.CALLS, rows.DICTIONARIES, rows.CALLS_PER_SECOND, FORK, AT_LEAST, 5.0),
    Bar(rows.MAP, rows.MILLION, rows.CALLS_PER_SECOND, POOL, AT_LEAST, 1.0),
    Bar(rows.ARRAYS, rows.ARRAY_IN, rows.MILLISECONDS, FORK, AT_MOST, 0.1),
    Bar(rows.ARRAYS, rows.ARRAY_IN, rows.MILLISECONDS, RAY, BELOW, 1.0),
    Bar(rows.ARRAYS, rows.ARRAY_OUT, rows.MILLISECONDS, FORK, AT_MOST, 0.1),
    Bar(rows.ARRAYS, rows.ARRAY_OUT, rows.MILLISECONDS, RAY, BELOW, 1.0),
    Bar(rows.ARRAYS, rows.BORN_IN, rows.MILLISECONDS, NOBODY, AT_MOST, 2.0),
    Bar(rows.ARRAYS, rows.BORN_OUT, rows.MILLISECONDS, NOBODY, AT_MOST, 2.0),
    Bar(rows.START, rows.FRESH, rows.MILLISECONDS, FORKSERVER, AT_MOST, 1.0),
    Bar(rows.START, rows.SECOND, rows.MILLISECONDS, FORKSERVER, AT_MOST, 0.5),
    Bar(rows.RECOVERY, rows.KILLED, rows.MILLISECONDS, NOBODY, AT_MOST, 50.0),
    Bar(rows.QUEUED, rows.PER_CALL, rows.BYTES, FORK, AT_MOST, 1 / 3),
    Bar(rows.CPU, rows.SPEEDUP, rows.TIMES, NOBODY, AT_LEAST, 1.9),
    Bar(rows.CPU, rows.SPEEDUP, rows.TIMES, NOBODY, AT_LEAST, 1.8, contender=MOTET_THREADS),
    # The same parts of two: of what the two processors give at that time, which is less than twice.
    Bar(rows.CPU, rows.EFFICIENCY, rows.PART, NOBODY, AT_LEAST, 0.95),
    Bar(rows.CPU, rows.EFFICIENCY, rows.PART, NOBODY, AT_LEAST, 0.9, contender=MOTET_THREADS),
)
