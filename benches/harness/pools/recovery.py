"""When a pool whose worker was killed is as fast again as before.

The load is calls that sleep for a millisecond, so that the rate stands for the number of workers and hardly
for how busy the machine is. The rate before is that of the half second before the kill. Full speed is back
with the first call to end after the kill from which on `WINDOW` seconds have `ENOUGH` of that rate; its time
since the kill is the figure. Calls count when the parent has their result, and not if they raise.
"""

from typing import Any

BEFORE = 0.5
WINDOW = 0.02
ENOUGH = 0.9


def recovery_time(ended: list[tuple[float, Any]], at: float) -> dict[str, float]:
    """Return milliseconds from `at`, when the worker was killed, to full speed, and to a new one's first.

    `ended` has for each call the time at which it ended and what it returned: the worker's number, or an
    exception.
    """
    good = sorted((when, worker) for when, worker in ended if isinstance(worker, int))
    rate = sum(at - BEFORE <= when < at for when, _ in good) / BEFORE
    known = {worker for when, worker in good if when < at}
    later = [(when, worker) for when, worker in good if when >= at]
    times = [when for when, _ in later]
    new = [when - at for when, worker in later if worker not in known]
    for position, when in enumerate(times):
        until = when + WINDOW
        if times[-1] < until:
            break
        if sum(when <= other < until for other in times[position:]) >= ENOUGH * rate * WINDOW:
            first = {"first_new_worker_ms": new[0] * 1e3} if new else {}
            return {"ms": (when - at) * 1e3, "calls_per_ms_before": rate / 1e3, **first}
    reasons = [type(result).__name__ for _, result in ended if isinstance(result, BaseException)]
    reason = f", the others raised {reasons[-1]}" if reasons else ""
    raise RuntimeError(f"it was not as fast again: {len(times)} calls ended after the kill{reason}")
