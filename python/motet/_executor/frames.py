"""Tables and frames of pandas, polars and Arrow on their way to other processes, by their buffers.

Most of that these libraries do by themselves. Here is what their pickles would copy, or send too much of:
polars' frames and series, pandas' dates, and parts of Arrow's tables, with which the whole would travel.
"""

from __future__ import annotations

import sys
from _pickle import Pickler
from copyreg import dispatch_table as registered
from io import BytesIO

from .shipping import IN_BAND

# As typing's, which takes long to import. Type checkers know the name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any

    _BufferCallback = Callable[[PickleBuffer], object]

# How each class is reduced, and the libraries whose classes are among them.
reductions: dict[Any, Callable[[Any], Any]] = {}
_known: set[str] = set()

# What pickle is given, the program's own with it, and how many they were when it was made.
_table: dict[Any, Any] = {}
_count = 0


def find_libraries() -> None:
    """Have `reductions` tell of all libraries that are loaded."""
    for library, (home, reducers) in _LIBRARIES.items():
        if library in _known or library not in sys.modules:
            continue
        module = sys.modules.get(home)
        # Another thread may be importing it.
        if all(hasattr(module, name) for name in reducers):
            reductions.update({getattr(module, name): reduce for name, reduce in reducers.items()})
            _known.add(library)


def dumps(value: object, protocol: int, *, buffer_callback: _BufferCallback | None = None) -> bytes:
    """As `pickle.dumps`, by `reductions`."""
    global _count
    find_libraries()
    count = len(reductions) + len(registered)
    if count != _count:
        _table.update({**reductions, **registered})
        # Last: another thread may be here, and must not go on with nothing.
        _count = count
    with BytesIO() as file:
        pickler = Pickler(file, protocol, buffer_callback=buffer_callback)
        pickler.dispatch_table = _table
        pickler.dump(value)
        return file.getvalue()


def _reduce_array(array: Any) -> Any:
    # Dates have no buffer that others may see; as integers they have.
    if array.dtype.kind in "mM" and array.nbytes >= IN_BAND:
        return _restore_dates, (array.view("i8"), array.dtype)
    return array.__reduce_ex__(5)


def _restore_dates(integers: Any, dtype: Any) -> Any:
    return integers.view(dtype)


def _reduce_frame(frame: Any) -> Any:
    table = _to_arrow(frame)
    return frame.__reduce_ex__(5) if table is None else (_restore_frame, (table,))


def _reduce_series(series: Any) -> Any:
    table = _to_arrow(series.to_frame())
    return series.__reduce_ex__(5) if table is None else (_restore_series, (table,))


def _to_arrow(frame: Any) -> Any:
    """The frame as a table that shares its memory; None where that does not pay or is not possible."""
    import polars  # type: ignore[import-not-found,unused-ignore]

    size = frame.estimated_size()
    if size < IN_BAND:
        return None
    try:
        table = frame.to_arrow(compat_level=polars.CompatLevel.newest())
    except Exception:
        # Without pyarrow, or a type that Arrow does not know.
        return None
    # A part of a frame may have the texts of the whole.
    return table if table.get_total_buffer_size() <= 2 * size else None


def _restore_frame(table: Any) -> Any:
    import polars

    return polars.from_arrow(table)


def _restore_series(table: Any) -> Any:
    return _restore_frame(table).to_series()


def _reduce_table(table: Any) -> Any:
    if not _is_part(table):
        return table.__reduce_ex__(5)
    return _restore_table, (_write(table),)


def _reduce_batch(batch: Any) -> Any:
    if not _is_part(batch):
        return batch.__reduce_ex__(5)
    return _restore_batch, (_write(batch),)


def _is_part(table: Any) -> bool:
    """Whether its buffers have much that is not of it."""
    return bool(table.get_total_buffer_size() > 2 * table.nbytes + IN_BAND)


def _write(table: Any) -> Any:
    import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue()


def _restore_table(stream: Any) -> Any:
    import pyarrow

    return pyarrow.ipc.open_stream(stream).read_all()


def _restore_batch(stream: Any) -> Any:
    import pyarrow

    return pyarrow.ipc.open_stream(stream).read_next_batch()


# By the library that has them travel: where the classes are, and how each is reduced.
_LIBRARIES: dict[str, tuple[str, dict[str, Callable[[Any], Any]]]] = {
    "pandas": ("numpy", {"ndarray": _reduce_array}),
    "polars": ("polars", {"DataFrame": _reduce_frame, "Series": _reduce_series}),
    "pyarrow": ("pyarrow", {"Table": _reduce_table, "RecordBatch": _reduce_batch}),
}
