"""What this version of motet does not do yet: each says so by name, at the call."""

from typing import Any, NoReturn

from ._base import LoopBase


def refuse(call: str, what: str) -> NoReturn:
    raise NotImplementedError(
        f"loop.{call}: motet does not do {what} yet; run this program on asyncio's own loop"
    )


def refuse_tls(method: str, ssl: Any) -> None:
    if ssl:
        refuse(f"{method}(ssl=…)", "TLS")


class UnsupportedMethods(LoopBase):
    """Methods of an event loop that raise `NotImplementedError`."""

    async def start_tls(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported yet."""
        refuse("start_tls()", "TLS")
