"""What this version of motet does not do yet: each says so by name, at the call."""

from typing import Any, NoReturn

from ._base import LoopBase


def refuse(call: str, what: str) -> NoReturn:
    raise NotImplementedError(
        f"loop.{call}: motet does not do {what} yet; run this program on asyncio's own loop"
    )


class UnsupportedMethods(LoopBase):
    """Methods of an event loop that raise `NotImplementedError`."""

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("create_datagram_endpoint()", "datagram transports")

    async def connect_read_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("connect_read_pipe()", "pipes")

    async def connect_write_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("connect_write_pipe()", "pipes")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("subprocess_shell()", "subprocesses")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("subprocess_exec()", "subprocesses")

    async def sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("sendfile()", "sendfile")

    async def sock_sendfile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("sock_sendfile()", "sendfile")
