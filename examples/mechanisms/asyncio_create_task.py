"""asyncio.create_task: a reader and its consumers side by side; a short queue holds the reader back."""

import asyncio
import sysconfig
from pathlib import Path

CONSUMERS = 3
Sources = asyncio.Queue[tuple[str, str]]


async def read_sources(sources: Sources) -> None:
    for file in sorted(Path(sysconfig.get_path("stdlib"), "asyncio").glob("*.py")):
        text = await asyncio.to_thread(file.read_text, encoding="utf-8")
        await sources.put((file.name, text))


async def count_awaits(sources: Sources, counts: dict[str, int]) -> None:
    """Runs until it is cancelled."""
    while True:
        name, text = await sources.get()
        counts[name] = text.count("await ")
        sources.task_done()


async def main() -> None:
    sources = Sources(maxsize=4)
    counts: dict[str, int] = {}
    consumers = [asyncio.create_task(count_awaits(sources, counts)) for _ in range(CONSUMERS)]
    reader = asyncio.create_task(read_sources(sources))
    await reader
    await sources.join()
    for consumer in consumers:
        consumer.cancel()
    ends = await asyncio.gather(*consumers, return_exceptions=True)
    for name in sorted(counts):
        print(f"{counts[name]:4}  {name}")
    cancelled = sum(isinstance(end, asyncio.CancelledError) for end in ends)
    print(f"{sum(counts.values()):4}  in {len(counts)} files, {cancelled} consumers cancelled")


if __name__ == "__main__":
    asyncio.run(main())
