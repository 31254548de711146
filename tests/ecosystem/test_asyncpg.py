"""asyncpg: a pool of connections to a real PostgreSQL server."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from clean_run import run_clean
from conftest import MakeLoop

from .conftest import LARGE, Transport
from .services import Postgres

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's descriptors")


async def use(**address: Any) -> None:
    """Queries side by side, one given up, one cancelled, a large one, and notifications."""
    async with asyncpg.create_pool(
        user="motet", database="postgres", min_size=2, max_size=8, **address
    ) as pool:
        answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(60)))
        assert answers == [2 * number for number in range(60)]
        assert await pool.fetchval("SELECT $1::bytea || $1::bytea", LARGE) == LARGE + LARGE
        await copy(pool)
        with pytest.raises(asyncio.TimeoutError):
            await pool.execute("SELECT pg_sleep(60)", timeout=0.1)
        task = asyncio.ensure_future(pool.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Those connections are of use again.
        assert await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(16))) == [1] * 16
        await notify(pool)


async def copy(pool: asyncpg.Pool[Any]) -> None:
    """Many rows in and out by COPY, in a transaction that is rolled back."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("CREATE TABLE numbers (number int, text text)")
        rows = [(number, f"{number} " * 20) for number in range(5000)]
        await connection.copy_records_to_table("numbers", records=rows)
        assert [tuple(row) async for row in connection.cursor("SELECT * FROM numbers ORDER BY 1")] == rows
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("SELECT 1/0")
        await transaction.rollback()
        assert await connection.fetchval("SELECT to_regclass('numbers')") is None


async def notify(pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as listening, pool.acquire() as speaking:
        heard: asyncio.Queue[str] = asyncio.Queue()

        def hear(connection: object, process: int, channel: str, payload: object) -> None:
            heard.put_nowait(str(payload))

        await listening.add_listener("news", hear)
        await speaking.execute("NOTIFY news, 'spoken'")
        assert await heard.get() == "spoken"
        await listening.remove_listener("news", hear)


def test_a_pool_over_tcp(make_loop: MakeLoop, transport: Transport, postgres: Postgres) -> None:
    async def main() -> None:
        await use(host="127.0.0.1", port=postgres.port, ssl=transport.client or False)

    run_clean(make_loop, main)


def test_a_pool_over_a_unix_socket(make_loop: MakeLoop, postgres: Postgres) -> None:
    async def main() -> None:
        await use(host=str(postgres.folder), port=postgres.port)

    run_clean(make_loop, main)
