"""The process pool that parses."""

import multiprocessing
import os
import signal
from concurrent.futures import Executor, ProcessPoolExecutor

WORKERS = os.cpu_count() or 1


def create_pool() -> Executor:
    """Workers are spawned, not forked: a fork copies whatever locks the threads of this process hold."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=spawn, initializer=leave_interrupts_to_parent)


def leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of the terminal; the parent alone answers it and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
