"""Parsing on all processors: by `motet.amap`, or by what the standard library has."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor

from parse import ParsedFile, Source, parse_source

Parse = Callable[[AsyncIterator[Source]], AsyncGenerator[ParsedFile, None]]


def parse_with_motet(sources: AsyncIterator[Source]) -> AsyncGenerator[ParsedFile, None]:
    """Files as they are parsed. Sources are taken only a little ahead: a slow index holds the crawl back."""
    # Here, so that the other way works where motet is not installed.
    import motet

    return motet.amap(parse_source, sources, on="processes", ordered=False)


async def parse_with_futures(sources: AsyncIterator[Source]) -> AsyncGenerator[ParsedFile, None]:
    """The same, by hand."""
    workers = os.cpu_count() or 1
    # Spawned, not forked: a fork copies whatever locks the threads of this process hold.
    spawn = multiprocessing.get_context("spawn")
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=leave_interrupts_to_parent) as pool:
        running: set[asyncio.Future[ParsedFile]] = set()
        async for source in sources:
            running.add(loop.run_in_executor(pool, parse_source, source))
            # Two files for each worker: one that it parses, one that waits so that it never idles.
            if len(running) >= 2 * workers:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        for parsed in asyncio.as_completed(running):
            yield await parsed


def leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of the terminal; the parent alone answers it and ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


POOLS: dict[str, Parse] = {"motet": parse_with_motet, "futures": parse_with_futures}
