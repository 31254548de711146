"""What of this machine this process may use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """How many processors this process may keep busy: its affinity, and the limit of its control group."""
    count = _allowed_cpus()
    quota = _quota()
    return max(1, count if quota is None else min(count, quota))


def _allowed_cpus() -> int:
    # Also knows what the user said by -X cpu_count or PYTHON_CPU_COUNT.
    known = getattr(os, "process_cpu_count", None)
    if known is not None:
        return known() or 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _quota() -> int | None:
    """Whole processors that the control group's time is worth, rounded up."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):
        given = int((_CGROUP / "cpu/cpu.cfs_quota_us").read_text())
        period_micros = int((_CGROUP / "cpu/cpu.cfs_period_us").read_text())
        return None if given <= 0 else -(-given // period_micros)
    return None
