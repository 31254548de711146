"""Arrays that are born in shared memory, so that calls take and return them without a copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from motet import _motet

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["empty", "empty_like", "set_arena_limit"]


def empty(
    shape: int | tuple[int, ...],
    dtype: DTypeLike = float,
    order: Literal["C", "F"] = "C",
    *,
    shared: bool = False,
) -> NDArray[Any]:
    """As `numpy.empty`, in memory that workers see.

    Passing the array (or a slice of it that is contiguous) to a call of a process executor, or returning
    it from one, copies nothing. The receiver has its own copy of what it writes to; do not write to the
    array yourself between `submit` and the result, for the receiver may see that or not.

    With `shared=True` there is only one array: what a worker writes to it, or to any part of it that it was
    given, is seen by the program and all other workers. Who writes where is the program's matter: no two
    calls at the same time to the same place, and nobody reads it before the call's result is there. A call
    that dies or is tried again may have written a part. It is the calls' arguments that are shared: an array
    that a call returns, or that a worker passes on to workers of its own, is a copy. Each such array takes a
    file descriptor here and in the workers; it begins with zeros.

    Raises:
        ArenaFull, ArgumentTooLarge: there is not so much shared memory, nor will there be once calls have
            ended, which this waits for; see `set_arena_limit`.
        TypeError: `dtype` holds Python objects, which cannot be shared.
    """
    import numpy as np

    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"an array of {kind} holds Python objects, which cannot be in shared memory")
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(length < 0 for length in lengths):
        raise ValueError(f"negative dimensions are not allowed: {shape}")
    count = math.prod(lengths)
    if count * kind.itemsize == 0:
        return np.empty(lengths, kind, order=order)
    if shared:
        from .shared_arrays import make

        return make(lengths, kind, count * kind.itemsize, order)
    memory = _motet.ArenaBuffer(count * kind.itemsize)
    return np.ndarray(lengths, kind, buffer=memoryview(memory), order=order)


def empty_like(array: NDArray[Any], dtype: DTypeLike | None = None, shape: Any = None) -> NDArray[Any]:
    """As `numpy.empty_like`, in memory that workers see; see `empty`."""
    import numpy as np

    prototype = np.asarray(array)
    order: Literal["C", "F"] = (
        "F" if prototype.flags.f_contiguous and not prototype.flags.c_contiguous else "C"
    )
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype, order)


def set_arena_limit(limit: int) -> None:
    """Set how many bytes of memory this process may share with workers, and each worker with it.

    Without that it is 4 GiB; in a control group it is to be well below the group's limit. When it is used up,
    `submit` waits until calls have ended. What the other side has kept for longer does not count.

    Raises:
        RuntimeError: there is an executor or an array of `empty` already.
    """
    if not isinstance(limit, int):
        raise TypeError(f"limit is to be a number of bytes, not {limit!r}")
    if limit < 1 << 20:
        raise ValueError(f"limit is to be at least 1 MiB, not {limit} bytes")
    _motet._set_arena_limit(limit)
