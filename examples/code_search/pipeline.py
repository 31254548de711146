"""The pipeline: crawl, parse and index run at once, and each waits when the one behind it is slower."""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from arguments import Arguments
from crawler import Page, crawl, fetch_index, open_session
from parse import Source
from pool import POOLS, Parse
from progress import show_progress
from server import serve
from store import Store
from tally import Tally

Pages = asyncio.Queue[Page | None]


async def build_index(arguments: Arguments, store: Store) -> Tally:
    """Serve, crawl, parse and index the tree; the tally says what was done and how long it took."""
    tally = Tally()
    progress = asyncio.create_task(show_progress(tally)) if arguments.progress else None
    try:
        async with (
            serve(arguments.root, arguments.limit, arguments.connections) as address,
            open_session(address, arguments.connections) as session,
        ):
            paths = await fetch_index(session)
            pages = Pages(maxsize=arguments.connections)

            async def deliver(page: Page) -> None:
                tally.count_fetched(len(page.source))
                if arguments.crawl_only:
                    tally.count_finished(page.path, page.error)
                else:
                    await pages.put(page)

            async def crawl_all() -> None:
                await crawl(session, paths, arguments.connections, deliver)
                await pages.put(None)

            tally.files = len(paths)
            tally.start()
            processor_started = time.process_time()
            async with asyncio.TaskGroup() as group:
                group.create_task(crawl_all())
                if not arguments.crawl_only:
                    group.create_task(parse_and_store(pages, POOLS[arguments.pool], store, tally))
            # The index is written by a thread of this process: its share is not the crawl's.
            tally.processor["crawl"] = time.process_time() - processor_started - store.seconds
            tally.processor["index"] = store.seconds
    finally:
        if progress is not None:
            progress.cancel()
            await asyncio.wait([progress])
    return tally


async def parse_and_store(pages: Pages, parse: Parse, store: Store, tally: Tally) -> None:
    """Parse and store what is fetched; the store is used from one thread of its own."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="index") as writer:
        async with aclosing(parse(sources(pages, tally))) as parsed_files:
            async for parsed in parsed_files:
                tally.processor["parse"] = tally.processor.get("parse", 0.0) + parsed.seconds
                tally.end("parse")
                await loop.run_in_executor(writer, store.add, parsed)
                tally.definitions += len(parsed.definitions)
                tally.count_finished(parsed.path, parsed.error)
        await loop.run_in_executor(writer, store.finish)
    tally.end("index")


async def sources(pages: Pages, tally: Tally) -> AsyncGenerator[Source, None]:
    """What is to be parsed, until the end is reached."""
    while (page := await pages.get()) is not None:
        if page.error is not None:
            tally.count_finished(page.path, page.error)
        else:
            yield page.path, page.source
