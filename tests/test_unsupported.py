"""What motet does not do yet says so, by the name of the method, at the call."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import closing
from typing import Any

import motet
import pytest

Call = tuple[tuple[Any, ...], dict[str, Any]]

CALLS: dict[str, Call] = {
    "start_tls": ((None, None, None), {}),
    "create_connection": ((asyncio.Protocol, "127.0.0.1", 1), {"ssl": True}),
    "create_server": ((asyncio.Protocol, "127.0.0.1", 0), {"ssl": ssl.create_default_context()}),
    "create_unix_server": ((asyncio.Protocol, "unused"), {"ssl": ssl.create_default_context()}),
    "create_unix_connection": ((asyncio.Protocol, "unused"), {"ssl": True, "server_hostname": "name"}),
    "connect_accepted_socket": ((asyncio.Protocol, None), {"ssl": ssl.create_default_context()}),
}


@pytest.mark.parametrize("method", CALLS)
def test_the_method_names_itself(method: str) -> None:
    arguments, keywords = CALLS[method]
    with closing(motet.new_event_loop()) as loop:
        with pytest.raises(NotImplementedError, match=rf"^loop\.{method}\(.*motet does not do .* yet"):
            loop.run_until_complete(getattr(loop, method)(*arguments, **keywords))
        assert loop.statistics()["connections_opened"] == 0


def test_programs_that_use_it_see_it_too() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError, match="create_connection"):
            await asyncio.open_connection("127.0.0.1", 1, ssl=True)

    motet.run(main())
