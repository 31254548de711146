"""What the smokes share: with and without TLS, and the servers that they talk to."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import tls_contexts

from .services import Postgres, Redis, start_postgres, start_redis

# More than sockets and water marks hold.
LARGE = bytes(range(256)) * 20_000


@dataclass(frozen=True)
class Transport:
    """Whether connections are encrypted; the contexts of both ends if they are."""

    server: ssl.SSLContext | None
    client: ssl.SSLContext | None

    def url(self, scheme: str, port: int, path: str = "/") -> str:
        """A URL of a server on this machine; `scheme` is the one without TLS."""
        return f"{scheme}{'s' if self.client else ''}://{tls_contexts.HOST}:{port}{path}"


@pytest.fixture(params=["plain", "tls"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Plain, then TLS."""
    if request.param == "plain":
        return Transport(None, None)
    return Transport(tls_contexts.server_context(), tls_contexts.client_context())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of this run's own."""
    with start_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A Redis server of this run's own."""
    with start_redis() as server:
        yield server
