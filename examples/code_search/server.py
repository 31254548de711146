"""The HTTP server: an index of a tree's Python sources at `/`, and each file under `/source/`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__"})
FILES = web.AppKey("FILES", dict[str, Path])


def find_sources(root: Path, limit: int | None) -> dict[str, Path]:
    """The first `limit` Python files below `root`, in alphabetical order, by their path relative to it."""
    found = {}
    for file in root.rglob("*.py"):
        relative = file.relative_to(root)
        if not SKIPPED_FOLDERS.intersection(relative.parts) and file.is_file():
            found[relative.as_posix()] = file
    return {path: found[path] for path in sorted(found)[:limit]}


async def serve_index(request: web.Request) -> web.Response:
    files = request.app[FILES]
    return web.json_response(list(files))


async def serve_source(request: web.Request) -> web.Response:
    """One file. Only what the index lists is served, so no path leads out of the tree."""
    file = request.app[FILES].get(request.match_info["path"])
    if file is None:
        raise web.HTTPNotFound(text="not in the index")
    try:
        source = await asyncio.to_thread(file.read_bytes)
    except OSError as error:
        raise web.HTTPForbidden(text=error.strerror) from error
    return web.Response(body=source, content_type="text/x-python")


@asynccontextmanager
async def serve(root: Path, limit: int | None, connections: int) -> AsyncIterator[str]:
    """Serve `root` on a free loopback port; the value is the server's address."""
    files = await asyncio.to_thread(find_sources, root, limit)
    application = web.Application()
    application[FILES] = files
    application.router.add_get("/", serve_index)
    application.router.add_get("/source/{path:.+}", serve_source)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        # All connections are opened at once: a shorter queue would leave some to the kernel's slow retries.
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=max(128, connections)).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
