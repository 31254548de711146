"""Arrays that workers write to: the program and its workers have the same memory.

NumPy sends an array as a buffer only if it is contiguous, and small buffers travel as copies. Here either
would mean that writes are lost, so these arrays say themselves how they travel: as a part of the memory, and
how they lie in it.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import Any, SupportsIndex, cast

import numpy as np

from motet import _motet

from .shipping import IN_BAND

# What a new memory has at least, so that every part of it can be sent as a buffer.
LEAST = IN_BAND


class SharedArray(np.ndarray[Any, Any]):
    """An array of `motet.empty(..., shared=True)`, or a part of one. What is computed from it is plain."""

    # All of the memory, as bytes; None if this array lies elsewhere.
    _memory: np.ndarray[Any, Any] | None = None

    def __array_finalize__(self, source: Any) -> None:
        """Know the memory, if this is a view of an array in it."""
        memory = getattr(source, "_memory", None)
        if memory is not None and self.size and 0 <= _address(self) - _address(memory) < memory.nbytes:
            self._memory = memory

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What NumPy's functions make of it: plain, unless it was written here."""
        wrapped = super().__array_wrap__(array, context)
        if wrapped is self:
            return self
        return wrapped[()] if return_scalar else wrapped.view(np.ndarray)

    def __getitem__(self, key: Any) -> Any:
        """A part of it; a plain array if the key makes NumPy copy."""
        found = super().__getitem__(key)
        return found.view(np.ndarray) if isinstance(found, SharedArray) and found._memory is None else found

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """As a buffer that spans it; where nobody takes buffers, that is a copy."""
        memory = self._memory
        if memory is None or protocol < cast("SupportsIndex", 5):  # type: ignore[operator]
            return self.view(np.ndarray).__reduce_ex__(protocol)
        first = _address(self) - _address(memory)
        steps = [(length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True)]
        begin = first + sum(step for step in steps if step < 0)
        end = first + sum(step for step in steps if step > 0) + self.itemsize
        # A smaller buffer would travel as a copy.
        begin = max(0, min(begin, memory.nbytes - LEAST))
        part = PickleBuffer(memory[begin : max(end, begin + LEAST)].data)
        return _restored, (part, self.shape, self.dtype, first - begin, self.strides)


def make(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, order: Any) -> SharedArray:
    """A new array of so many bytes."""
    memory = np.frombuffer(memoryview(_motet.ArenaBuffer(max(size, LEAST), common=True)), np.uint8)
    array = np.ndarray.__new__(SharedArray, shape, dtype, memory, order=order)
    array._memory = memory
    return array


def _restored(part: Any, shape: Any, dtype: Any, offset: int, strides: Any) -> np.ndarray[Any, Any]:
    """The array in the receiver. What has travelled as a copy is a plain one."""
    array = np.ndarray(shape, dtype, part, offset, strides)
    if not (isinstance(part, _motet.Leased) and part.is_common):
        return array
    shared = array.view(SharedArray)
    shared._memory = np.frombuffer(memoryview(part), np.uint8)
    return shared


def _address(array: np.ndarray[Any, Any]) -> int:
    return cast(int, array.__array_interface__["data"][0])
