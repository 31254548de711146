"""Mistakes that type checkers must find: each comment names the error there must be. Checked, never run."""

import asyncio

import motet


async def number() -> int:
    return 1


def add(left: int, right: str) -> None:
    print(left, right)


def entry_points() -> None:
    motet.run(number)  # type: ignore[arg-type]
    motet.run(number(), loop=None)  # type: ignore[call-arg]
    asyncio.Runner(loop_factory=motet.EventLoop())  # type: ignore[arg-type]


def scheduling(loop: motet.EventLoop, timer: motet.TimerHandle) -> None:
    loop.call_soon(add, 1)  # type: ignore[arg-type]
    loop.call_soon(add, "a", 1)  # type: ignore[arg-type]
    loop.call_later("1", add, 1, "a")  # type: ignore[arg-type]
    loop.call_soon(print, context={})  # type: ignore[arg-type]
    loop.create_task(number)  # type: ignore[arg-type]
    loop.add_reader("stdin", print)  # type: ignore[arg-type]
    timer.when = 1.0  # type: ignore[method-assign, assignment]
    _: asyncio.Handle = timer  # type: ignore[assignment]


def observing(loop: motet.EventLoop) -> None:
    loop.blocked_threshold = "long"  # type: ignore[assignment]
    loop.statistics(True)  # type: ignore[call-arg]


def transports(transport: motet.SocketTransport) -> None:
    transport.write("text")  # type: ignore[arg-type]
    transport.get_protocol().data_received(b"")  # type: ignore[attr-defined]


class OwnTransport(motet.SocketTransport):  # type: ignore[misc]
    """Transports are final."""
