"""The transport of a child process, and the protocols of its pipes."""

import asyncio
import contextlib
import functools
import signal
import subprocess
import warnings
from asyncio.log import logger
from typing import Any

from ._base import LoopBase
from ._children import Child
from ._pipes import ReadPipeTransport, WritePipeTransport


class _PipeProtocol(asyncio.Protocol):
    """One pipe of a child: passes on to the child's transport what happens to it."""

    def __init__(self, child: "SubprocessTransport", number: int) -> None:
        self._child: SubprocessTransport | None = child
        self._number = number
        self.transport: ReadPipeTransport | WritePipeTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._child is not None:
            self._child._call("pipe_data_received", self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        child, self._child = self._child, None
        if child is not None:
            child._pipe_lost(self._number, exc)

    def pause_writing(self) -> None:
        if self._child is not None:
            self._child.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        if self._child is not None:
            self._child.get_protocol().resume_writing()


class SubprocessTransport(asyncio.SubprocessTransport):
    """A child process and its pipes."""

    def __init__(
        self,
        loop: LoopBase,
        protocol: asyncio.SubprocessProtocol,
        process: "subprocess.Popen[bytes]",
        extra: dict[str, Any] | None,
    ) -> None:
        super().__init__({**(extra or {}), "subprocess": process})
        self._loop = loop
        self._protocol: asyncio.SubprocessProtocol | None = protocol
        self._process: subprocess.Popen[bytes] | None = process
        self._pid = process.pid
        self._returncode: int | None = None
        # Until there is a child to wait for.
        self._closed = True
        self._finished = False
        self._waiters: set[asyncio.Future[int]] = set()
        self._pipes: dict[int, _PipeProtocol] = {}
        self._open_pipes: set[int] = set()
        # What happens before the protocol knows the transport.
        self._early_calls: list[tuple[str, tuple[Any, ...]]] | None = []
        self._child: Child | None = None
        self._child = Child(loop, process, self._exited)
        self._closed = False

    async def _connect_pipes(self) -> None:
        for number, pipe in enumerate(self._raw_pipes()):
            if pipe is not None:
                self._pipes[number] = protocol = _PipeProtocol(self, number)
                self._open_pipes.add(number)
                connect = self._loop.connect_read_pipe if number else self._loop.connect_write_pipe
                await connect(functools.partial(_itself, protocol), pipe)
        calls, self._early_calls = self._early_calls or [], None
        self._call("connection_made", self)
        for method, arguments in calls:
            self._call(method, *arguments)
        self._finish()
        # The protocol knows of the transport before whoever asked for it does.
        await asyncio.sleep(0)

    def _raw_pipes(self) -> tuple[Any, ...]:
        process = self._process
        return () if process is None else (process.stdin, process.stdout, process.stderr)

    def _call(self, method: str, *arguments: Any) -> None:
        if self._early_calls is None:
            self._loop.call_soon(getattr(self._protocol, method), *arguments)
        else:
            self._early_calls.append((method, arguments))

    def _pipe_lost(self, number: int, error: Exception | None) -> None:
        self._open_pipes.discard(number)
        self._call("pipe_connection_lost", number, error)
        self._finish()

    def _exited(self, status: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, status)
        self._child = None
        self._returncode = status
        self._call("process_exited")
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(status)
        self._finish()

    def _finish(self) -> None:
        """Ends the connection once the child and all its pipes have ended."""
        ended = self._returncode is not None and not self._open_pipes
        if ended and self._early_calls is None and not self._finished:
            self._finished = True
            self._loop.call_soon(self._tell_lost)

    def _tell_lost(self) -> None:
        protocol, self._protocol, self._process = self._protocol, None, None
        if protocol is not None:
            protocol.connection_lost(None)

    async def _wait(self) -> int:
        """Waits for the child's end; what `asyncio.subprocess.Process.wait` asks for."""
        if self._returncode is None:
            waiter: asyncio.Future[int] = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                return await waiter
            finally:
                self._waiters.discard(waiter)
        return self._returncode

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        protocol = self._pipes.get(fd)
        return None if protocol is None else protocol.transport

    def get_protocol(self) -> asyncio.SubprocessProtocol:
        return self._protocol  # type: ignore[return-value]

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def send_signal(self, signal: int) -> None:
        if self._process is None or self._returncode is not None:
            raise ProcessLookupError
        if self._child is not None:
            self._child.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # The pipes of a closed loop close themselves.
        if not self._loop.is_closed():
            for number, pipe in enumerate(self._raw_pipes()):
                if pipe is not None:
                    (self.get_pipe_transport(number) or pipe).close()
        if self._process is not None and self._child is not None and not self._child.has_ended():
            if self._loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            # It may have ended, or be another user's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._process.kill()

    def __repr__(self) -> str:
        status = "running" if self._returncode is None else f"returncode={self._returncode}"
        parts = ["closed"] if self._closed else []
        parts += [f"pid={self._pid}", status]
        names = ("stdin", "stdout", "stderr")
        parts += [f"{names[number]}={pipe.transport!r}" for number, pipe in self._pipes.items()]
        return f"<{type(self).__name__} {' '.join(parts)}>"

    def __del__(self) -> None:
        try:
            if not self._closed:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self.close()
            if self._child is not None:
                self._child.forget()


def _itself(protocol: _PipeProtocol) -> _PipeProtocol:
    return protocol
