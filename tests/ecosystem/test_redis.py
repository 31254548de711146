"""redis-py's asyncio client, with a real Redis server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tls_contexts
from clean_run import run_clean
from conftest import MakeLoop
from redis import asyncio as redis_asyncio
from redis.exceptions import TimeoutError as RedisTimeoutError

from .conftest import LARGE, Transport
from .services import Redis

pytestmark = pytest.mark.thread_unsafe(reason="counts the process's descriptors")


async def use(**address: Any) -> None:
    """Commands side by side, a pipeline, a subscription, a large value, waits given up and cancelled."""
    pool = redis_asyncio.BlockingConnectionPool(max_connections=10, timeout=30, **address)
    async with redis_asyncio.Redis(connection_pool=pool) as client:
        await client.flushall()
        assert all(await asyncio.gather(*(client.set(f"key{n}", b"%d" % n) for n in range(60))))
        assert await asyncio.gather(*(client.get(f"key{n}") for n in range(60))) == [
            b"%d" % number for number in range(60)
        ]
        assert await client.set("large", LARGE)
        assert await client.get("large") == LARGE
        async with client.pipeline(transaction=True) as pipeline:
            for number in range(500):
                pipeline.rpush("list", number)
            assert await pipeline.execute() == list(range(1, 501))
        async with client.pubsub() as subscription:
            await subscription.subscribe("news")
            assert (await anext(subscription.listen()))["type"] == "subscribe"
            await client.publish("news", "spoken")
            assert (await anext(subscription.listen()))["data"] == b"spoken"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.blpop(["nothing"], timeout=60), 0.05)
        task = asyncio.ensure_future(client.blpop(["nothing"], timeout=60))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.rpush("nothing", "something") == 1
    await pool.aclose()
    impatient = redis_asyncio.Redis(
        connection_pool=redis_asyncio.ConnectionPool(**{**address, "socket_timeout": 0.05})
    )
    async with impatient:
        with pytest.raises(RedisTimeoutError):
            await impatient.blpop(["nobody"], timeout=60)
    await impatient.connection_pool.aclose()


def test_commands_over_tcp(make_loop: MakeLoop, transport: Transport, redis: Redis) -> None:
    async def main() -> None:
        if transport.client is None:
            await use(host="127.0.0.1", port=redis.port)
        else:
            await use(
                connection_class=redis_asyncio.SSLConnection,
                host=tls_contexts.HOST,
                port=redis.tls_port,
                ssl_ca_certs=str(redis.path.with_name("authority.pem")),
            )

    run_clean(make_loop, main)


def test_commands_over_a_unix_socket(make_loop: MakeLoop, redis: Redis) -> None:
    async def main() -> None:
        await use(
            connection_class=redis_asyncio.UnixDomainSocketConnection,
            path=str(redis.path),
        )

    run_clean(make_loop, main)
