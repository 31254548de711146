"""The crawler: fetches the index, then every file in it, over many connections at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp


@dataclass(frozen=True, slots=True)
class Page:
    """One fetched file, or the reason why the server did not give it."""

    path: str
    source: bytes
    error: str | None = None


Deliver = Callable[[Page], Awaitable[None]]


def open_session(address: str, connections: int) -> aiohttp.ClientSession:
    """A client session that keeps at most `connections` connections to `address`."""
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(limit=connections))


async def fetch_index(session: aiohttp.ClientSession) -> list[str]:
    async with session.get("/") as response:
        response.raise_for_status()
        paths: list[str] = await response.json()
        return paths


async def fetch_page(session: aiohttp.ClientSession, path: str) -> Page:
    async with session.get(f"/source/{quote(path)}") as response:
        body = await response.read()
        if response.status == 200:
            return Page(path, body)
        return Page(path, b"", f"not fetched: {response.status} {body.decode(errors='replace')}")


async def crawl(session: aiohttp.ClientSession, paths: list[str], connections: int, deliver: Deliver) -> None:
    """Fetch every path and deliver its page. A delivery that takes its time holds its connection back."""
    remaining = iter(paths)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(connections, len(paths))):
            group.create_task(crawl_some(session, remaining, deliver))


async def crawl_some(session: aiohttp.ClientSession, remaining: Iterator[str], deliver: Deliver) -> None:
    """One connection's share: whatever path is next, until none remains."""
    for path in remaining:
        await deliver(await fetch_page(session, path))
