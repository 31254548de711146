"""Progress on stderr: a bar that redraws itself on a terminal, otherwise a line every two seconds."""

import asyncio
import sys
import time

from tally import Tally

BAR_WIDTH = 30


def describe(tally: Tally, share: float) -> str:
    filled = round(share * BAR_WIDTH)
    return (
        f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {tally.fetched:,} of {tally.files:,} files fetched, "
        f"{tally.finished:,} done, {tally.bytes / 1e6:.1f} MB"
    )


async def show_progress(tally: Tally) -> None:
    """Report on `tally` until cancelled."""
    terminal = sys.stderr.isatty()
    interval = 0.1 if terminal else 2.0
    started = time.monotonic()
    try:
        while True:
            await asyncio.sleep(interval)
            line = describe(tally, tally.finished / max(1, tally.files))
            if terminal:
                print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            else:
                print(f"{time.monotonic() - started:5.0f} s  {line}", file=sys.stderr, flush=True)
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
