"""Writes a picture as a PNG file."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write rows of pixels of red, green and blue."""
    height, width, _ = picture.shape
    # Each row begins with its filter: 1, each byte is the difference to the pixel before.
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 1
    rows[:, 1:4] = picture[:, 0]
    rows[:, 4:] = (picture[:, 1:] - picture[:, :-1]).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts))


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
