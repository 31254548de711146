"""multiprocessing's objects on their way to workers."""

from __future__ import annotations

import logging
import multiprocessing
import socket
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import motet
import pytest

PATIENCE = 60.0
_given: list[Any] = []


@pytest.fixture(params=["spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> BaseContext:
    return multiprocessing.get_context(request.param)


def keep(*given: Any) -> None:
    _given[:] = given


def put(value: int) -> None:
    queue, lock, connection = _given
    with lock:
        queue.put(value)
    connection.send(value)


def test_initializers_are_given_queues_locks_and_connections(context: BaseContext) -> None:
    queue: Any = context.Queue()
    here, there = multiprocessing.Pipe()
    with motet.Executor(
        "processes", 1, initializer=keep, initargs=(queue, context.Lock(), there)
    ) as executor:
        executor.submit(put, 5).result(PATIENCE)
        assert queue.get(timeout=PATIENCE) == 5
        assert here.recv() == 5
        # A worker that comes later has them too.
        next(iter(executor._processes.values())).kill()
        while executor.submit(len, _given).exception(PATIENCE):
            pass
        executor.submit(put, 6).result(PATIENCE)
        assert queue.get(timeout=PATIENCE) == 6
    for end in (here, there, queue):
        end.close()
    queue.join_thread()


def fail_and_log(queue: Any) -> None:
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(QueueHandler(queue))
    logger.propagate = False
    raise ValueError("error in initializer")


def test_a_failing_initializer_is_logged(context: BaseContext) -> None:
    queue: Any = context.Queue()
    with motet.Executor("processes", 1, initializer=fail_and_log, initargs=(queue,)) as executor:
        with pytest.raises(motet.InitializerFailed):
            executor.submit(int).result(PATIENCE)
        # The record was there before the future was done.
        assert "error in initializer" in queue.get(timeout=PATIENCE).getMessage()
    queue.close()
    queue.join_thread()


def send(end: Connection) -> None:
    end.send("from a worker")
    end.close()


def send_bytes(end: socket.socket) -> None:
    end.sendall(b"from a worker")
    end.close()


def test_connections_and_sockets_are_arguments() -> None:
    with motet.Executor("processes", 1) as executor:
        here, there = multiprocessing.Pipe()
        executor.submit(send, there).result(PATIENCE)
        assert here.recv() == "from a worker"
        mine, yours = socket.socketpair()
        executor.submit(send_bytes, yours).result(PATIENCE)
        assert mine.recv(100) == b"from a worker"
    for end in (here, there, mine, yours):
        end.close()


def test_queues_of_a_manager_are_arguments(context: BaseContext) -> None:
    with context.Manager() as manager, motet.Executor("processes", 1) as executor:
        queue = manager.Queue()
        executor.submit(queue.put, 7).result(PATIENCE)
        assert queue.get(timeout=PATIENCE) == 7
