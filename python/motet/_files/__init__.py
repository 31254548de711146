"""Files: `motet.open`, and whole files at once.

- `opening`: `open` and its arguments.
- `turns`: what open files have in common: one request after the other, and what a
  cancelled one leaves behind.
- `binary`: binary files, buffered here, over a raw file.
- `raw`: raw files: the core's on motet's loop, the standard library's in threads on others.
- `text`: text files, which are the standard library's, called in threads.
- `whole`: `read_bytes` and its kin.
"""

from .binary import AsyncBinaryFile
from .opening import open
from .text import AsyncTextFile
from .turns import AsyncFile
from .whole import read_bytes, read_text, write_bytes, write_text

__all__ = [
    "AsyncBinaryFile",
    "AsyncFile",
    "AsyncTextFile",
    "open",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_text",
]
