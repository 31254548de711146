"""Whole files at once: opened, read or written, and closed, in one go of a thread."""

import asyncio
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from .. import _motet
from .._loop import EventLoop

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath

_READ = os.O_RDONLY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


async def read_bytes(path: "StrOrBytesPath") -> bytes:
    """What is in a file."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        sys.audit("open", path, "r", _READ)
        return await _motet._read_file(loop, path)
    return await loop.run_in_executor(None, _read, os.fspath(path))


async def write_bytes(path: "StrOrBytesPath", data: "ReadableBuffer") -> int:
    """Replaces what is in a file, which is made if there is none; returns how many bytes that was.

    Once begun it is carried out, also when the caller is cancelled.
    """
    if type(data) is not bytes:
        data = bytes(memoryview(data))
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        sys.audit("open", path, "w", _WRITE)
        return await _motet._write_file(loop, path, data)
    return await loop.run_in_executor(None, _write, os.fspath(path), data)


async def read_text(
    path: "StrOrBytesPath",
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> str:
    """What is in a file, as text; encoding, errors and newlines are treated as by the built-in `open`."""
    encoding = io.text_encoding(encoding)
    return _text(encoding, errors, newline, await read_bytes(path))


async def write_text(
    path: "StrOrBytesPath",
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    """Replaces what is in a file by a text; returns how many characters that was."""
    buffer = io.BytesIO()
    text = io.TextIOWrapper(buffer, io.text_encoding(encoding), errors, newline)
    text.write(data)
    text.flush()
    await write_bytes(path, buffer.getvalue())
    return len(data)


def _text(encoding: str, errors: str | None, newline: str | None, data: bytes) -> str:
    """Decodes as a file does: its newlines too."""
    if newline is None and encoding in ("utf-8", "utf8", "UTF-8") and b"\r" not in data:
        return data.decode("utf-8", errors or "strict")
    with io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline) as text:
        return text.read()


def _read(path: Any) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: Any, data: bytes) -> int:
    with open(path, "wb") as file:
        return file.write(data)
