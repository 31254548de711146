"""What motet does not do yet says so, by the name of the method, at the call."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import motet
import pytest

Call = tuple[tuple[Any, ...], dict[str, Any]]

CALLS: dict[str, Call] = {
    "create_datagram_endpoint": ((asyncio.DatagramProtocol,), {"local_addr": ("127.0.0.1", 0)}),
    "connect_read_pipe": ((asyncio.Protocol, None), {}),
    "connect_write_pipe": ((asyncio.Protocol, None), {}),
    "subprocess_shell": ((asyncio.SubprocessProtocol, "true"), {}),
    "subprocess_exec": ((asyncio.SubprocessProtocol, "true"), {}),
    "sendfile": ((None, None), {}),
    "sock_sendfile": ((None, None), {}),
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
        with pytest.raises(NotImplementedError, match="subprocess_exec"):
            await asyncio.create_subprocess_exec("true")

    motet.run(main())
