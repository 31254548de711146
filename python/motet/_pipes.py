"""Pipe transports: `connect_read_pipe` and `connect_write_pipe`.

They are written in Python over the loop's readers and writers: what a pipe holds comes at once, so that the
system calls outweigh the rest.
"""

import asyncio
import errno
import fcntl
import os
import stat
import warnings
import weakref
from asyncio import transports
from asyncio.log import logger
from typing import Any

from . import _motet
from ._base import LoopBase

# How much one event may bring, so that others have a turn.
_READ_SIZE = 256 * 1024

_DROPPED_WRITES_BEFORE_WARNING = 5

_BytesLike = bytes | bytearray | memoryview


class _PipeTransport(asyncio.BaseTransport):
    """What both ends have in common: the pipe object, the protocol, the end."""

    _loop: LoopBase
    _pipe: Any = None
    # What the loop calls; only the loop keeps it (see `handle.rs`).
    _reader: weakref.ref[_motet.Handle] | None = None
    _writer: weakref.ref[_motet.Handle] | None = None

    def _adopt(self, loop: LoopBase, pipe: Any, protocol: asyncio.BaseProtocol, refusal: str) -> int:
        """Takes the pipe over; returns the kind of its descriptor, a part of its mode."""
        self._loop = loop
        self._protocol = protocol
        self._closing = False
        self._lost = False
        self._fileno: int = pipe.fileno()
        mode = os.fstat(self._fileno).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise ValueError(refusal)
        os.set_blocking(self._fileno, False)
        self._pipe = pipe
        return stat.S_IFMT(mode)

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        """Watches the descriptor, and tells who waits for the transport; after `connection_made`."""
        try:
            self._watch()
        except OSError as error:
            if waiter is None or waiter.done():
                self._fail(error, "Fatal error on pipe transport")
            else:
                waiter.set_exception(error)
        else:
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _watch(self) -> None:
        raise NotImplementedError

    def _fail(self, error: BaseException, message: str) -> None:
        raise NotImplementedError

    def _descriptor(self) -> int:
        """The pipe's number. Whoever closed the pipe object has left the number to somebody else."""
        try:
            if self._pipe.fileno() == self._fileno:
                return self._fileno
        except ValueError:
            pass
        raise OSError(errno.EBADF, "the pipe of this transport was closed; close the transport instead")

    def _unwatch(self) -> None:
        if _is_active(self._reader):
            self._loop._remove_reader(self._fileno)
        if _is_active(self._writer):
            self._loop._remove_writer(self._fileno)

    def _log(self, event: str) -> None:
        if self._loop.get_debug():
            logger.debug("%r %s", self, event)

    def _log_error(self, error: BaseException, message: str) -> None:
        if self._loop.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _lose(self, error: BaseException | None) -> None:
        """Ends the connection at once; the protocol hears of it in the next round."""
        self._closing = True
        if not self._lost:
            self._loop.call_soon(self._tell_lost, error)
            self._lost = True
            self._unwatch()

    def _tell_lost(self, error: BaseException | None) -> None:
        pipe, self._pipe = self._pipe, None
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]
        finally:
            pipe.close()
            self._protocol = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        state = "closed" if self._pipe is None else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} fd={self._fileno} {self._describe()}>"

    def _describe(self) -> str:
        raise NotImplementedError

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def __del__(self) -> None:
        if self._pipe is not None:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:
                self._pipe.close()


class ReadPipeTransport(_PipeTransport, asyncio.ReadTransport):
    """The reading end of a pipe, FIFO, socket or terminal."""

    _protocol: asyncio.Protocol

    def __init__(
        self,
        loop: LoopBase,
        pipe: Any,
        protocol: asyncio.Protocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__({**(extra or {}), "pipe": pipe})
        self._paused = False
        self._adopt(loop, pipe, protocol, "Pipe transport is for pipes/sockets only.")
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._begin, waiter)

    def _watch(self) -> None:
        if self.is_reading():
            self._reader = weakref.ref(self._loop._add_reader(self._fileno, self._read_ready))

    def _read_ready(self) -> None:
        try:
            data = os.read(self._descriptor(), _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error, "Fatal read error on pipe transport")
            return
        if data:
            self._loop._count_bytes(len(data), 0)
            self._protocol.data_received(data)
        else:
            self._log("was closed by peer")
            self._loop.call_soon(self._protocol.eof_received)
            self._lose(None)

    def _fail(self, error: BaseException, message: str) -> None:
        # How the last writer's end of a pseudo-terminal shows.
        if isinstance(error, OSError) and error.errno == errno.EIO:
            self._log_error(error, message)
        else:
            self._report(error, message)
        self._lose(error)

    def _describe(self) -> str:
        return "read=polling" if self.is_reading() else "read=idle"

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._unwatch()
            self._log("pauses reading")

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._watch()
            self._log("resumes reading")

    def close(self) -> None:
        self._lose(None)


class WritePipeTransport(_PipeTransport, transports._FlowControlMixin, asyncio.WriteTransport):
    """The writing end of a pipe, FIFO, socket or terminal."""

    def __init__(
        self,
        loop: LoopBase,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__({**(extra or {}), "pipe": pipe}, loop)
        self._buffer = bytearray()
        self._dropped_writes = 0
        kind = self._adopt(
            loop, pipe, protocol, "Pipe transport is only for pipes, sockets and character devices"
        )
        # A FIFO that is open for both has a reader for ever; what it holds would look like the reader's end.
        self._knows_reader = kind == stat.S_IFSOCK or (
            kind == stat.S_IFIFO and fcntl.fcntl(self._fileno, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        )
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._begin, waiter)

    def _watch(self) -> None:
        if self._knows_reader and not self._closing:
            self._reader = weakref.ref(self._loop._add_reader(self._fileno, self._reader_gone))

    def _reader_gone(self) -> None:
        self._log("was closed by peer")
        self._lose(BrokenPipeError() if self._buffer else None)

    def _fail(self, error: BaseException, message: str) -> None:
        if isinstance(error, OSError):
            self._log_error(error, message)
        else:
            self._report(error, message)
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        self._buffer.clear()
        super()._lose(error)

    def _describe(self) -> str:
        return f"write=<{'polling' if self._buffer else 'idle'}, bufsize={len(self._buffer)}>"

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: _BytesLike) -> None:
        if not isinstance(data, bytes):
            data = _bytes_of(data)
        if not data:
            return
        if self._closing:
            if self._dropped_writes >= _DROPPED_WRITES_BEFORE_WARNING:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self._dropped_writes += 1
            return
        if not self._buffer:
            try:
                count = self._send(data)
                if count == len(data):
                    return
                self._writer = weakref.ref(self._loop._add_writer(self._fileno, self._write_ready))
            except OSError as error:
                self._dropped_writes += 1
                self._fail(error, "Fatal write error on pipe transport")
                return
            data = memoryview(data)[count:]
        self._buffer += data
        self._maybe_pause_protocol()  # type: ignore[attr-defined]

    def _send(self, data: _BytesLike) -> int:
        try:
            count = os.write(self._descriptor(), data)
        except BlockingIOError:
            return 0
        self._loop._count_bytes(0, count)
        return count

    def _write_ready(self) -> None:
        try:
            count = self._send(self._buffer)
        except OSError as error:
            self._dropped_writes += 1
            self._fail(error, "Fatal write error on pipe transport")
            return
        del self._buffer[:count]
        # The protocol may write on, or end the connection.
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        if self._buffer or self._lost:
            return
        if self._closing:
            self._lose(None)
        else:
            self._loop._remove_writer(self._fileno)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._lose(None)

    def close(self) -> None:
        self.write_eof()

    def abort(self) -> None:
        self._lose(None)


def _is_active(handle: weakref.ref[_motet.Handle] | None) -> bool:
    """Whether a handle is watched by still. It is not if the number has got into other hands."""
    known = None if handle is None else handle()
    return known is not None and not known.cancelled()


def _bytes_of(data: object) -> memoryview:
    """The bytes of other objects than `bytes`, so that their number is the length."""
    if isinstance(data, bytearray | memoryview):
        return memoryview(data).cast("B")
    raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")


class PipeMethods(LoopBase):
    """What `asyncio.BaseEventLoop.connect_read_pipe` and `connect_write_pipe` ask for."""

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: asyncio.Protocol, waiter: asyncio.Future[None], extra: Any = None
    ) -> ReadPipeTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None], extra: Any = None
    ) -> WritePipeTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)
