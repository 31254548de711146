"""What the tests of mappings have in common: each file takes both names over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from motet._executor import pools

pytestmark = [
    pytest.mark.thread_unsafe(reason="each thread would start workers of its own"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module", autouse=True)
def no_workers_left() -> Iterator[None]:
    yield
    pools.end_all()
