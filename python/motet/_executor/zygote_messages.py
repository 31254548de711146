"""What a pool and its zygote say to each other.

    pool → zygote    a request to fork, with the descriptors that the worker is to have
    pool → zygote    a request to signal a worker
    zygote → pool    the worker's process number, with a descriptor that stands for the process
    zygote → pool    the end of a worker: number, exit status, largest resident memory

Messages are pickles with their length before them.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from typing import Any, NamedTuple

# What the kernel passes on with one message.
MOST_DESCRIPTORS = 253


class Spawn(NamedTuple):
    """A request to fork.

    Descriptors that come with it: lane, bell, the lane's socket, output, errors, and the initializer's.
    `authentication` is the key by which multiprocessing's managers know their own processes, if it is loaded;
    `descriptors` is how many come with it.
    """

    lane: int
    name: str
    path: list[str]
    arguments: list[str]
    folder: str | None
    environment: dict[str, str]
    setup: bytes
    authentication: bytes | None
    descriptors: int

    @classmethod
    def of_this_process(cls, lane: int, name: str, setup: bytes, descriptors: int) -> Spawn:
        """A request for a worker that finds what this process would find."""
        try:
            folder = os.getcwd()
        except FileNotFoundError:
            folder = None
        process: Any = sys.modules.get("multiprocessing.process")
        key = None if process is None else bytes(process.current_process().authkey)
        return cls(
            lane, name, list(sys.path), list(sys.argv), folder, dict(os.environ), setup, key, descriptors
        )


class Signal(NamedTuple):
    """A request to signal a worker whose descriptor its pool's process had no place for."""

    pid: int
    number: int


class Born(NamedTuple):
    """The answer, sent with a descriptor of the process, which is lost if the pool's process has no more."""

    lane: int
    pid: int


class Ended(NamedTuple):
    """The end of a worker: `status` as of `os.waitstatus_to_exitcode`, `largest_memory` in bytes.

    `problem` says why there was no worker to begin with.
    """

    lane: int
    status: int
    largest_memory: int
    problem: str = ""


class Closed(Exception):
    """The other side of a socket is gone."""


def send(channel: socket.socket, message: object, descriptors: list[int] | None = None) -> None:
    """Send a message with descriptors; blocks while the other side does not read.

    Raises:
        Closed: the other side is gone.
    """
    data = pickle.dumps(message)
    data = len(data).to_bytes(4, "little") + data
    try:
        sent = socket.send_fds(channel, [data], descriptors or [])
        channel.sendall(data[sent:])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed from error


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """The next message with those of its descriptors that there was place for; blocks until it is there.

    Raises:
        Closed: the other side is gone.
    """
    data = bytearray()
    found: list[int] = []
    length = 4
    while len(data) < length:
        try:
            # Not beyond the message: what follows may have descriptors of its own.
            part, descriptors, _, _ = socket.recv_fds(channel, length - len(data), MOST_DESCRIPTORS)
        except ConnectionResetError as error:
            raise Closed from error
        found += descriptors
        data += part
        if not part:
            raise Closed
        if length == 4 and len(data) == 4:
            length += int.from_bytes(data, "little")
    return pickle.loads(data[4:]), found
