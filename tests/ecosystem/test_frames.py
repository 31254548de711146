"""Tables and frames of pandas, polars and Arrow, to workers and back, by their buffers."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import motet
import numpy as np
import pytest
from executor_helpers import LIMIT

ROWS = 200_000
# What may travel besides the buffers: names, types, places.
LITTLE = 64 << 10


@pytest.fixture(scope="module")
def executor() -> Iterator[motet.Executor]:
    """One worker."""
    with motet.Executor("processes", 1) as executor:
        yield executor


def give_back(value: Any) -> Any:
    return value


def there_and_back(executor: motet.Executor, value: Any, function: Callable[[Any], Any] = give_back) -> Any:
    """What a worker makes of it, and how much was copied and shared each way."""
    executor.submit(function, value).result(LIMIT)
    before = executor.statistics()
    result = executor.submit(function, value).result(LIMIT)
    after = executor.statistics()
    return result, {
        (kind, way): after[kind][way] - before[kind][way]
        for kind in ("bytes_copied", "bytes_shared")
        for way in ("to_workers", "from_workers")
    }


def check_shared(moved: dict[tuple[str, str], int], size: int) -> None:
    """Holds if the buffers were shared, and hardly anything was copied."""
    for way in ("to_workers", "from_workers"):
        assert moved["bytes_copied", way] < LITTLE
        assert size <= moved["bytes_shared", way] < size * 1.3 + LITTLE


def names(count: int) -> list[str]:
    return [f"a name that is longer than twelve bytes, number {number % 1000}" for number in range(count)]


class TestPandas:
    def test_a_frame(self, executor: motet.Executor) -> None:
        pandas: Any = pytest.importorskip("pandas")
        frame = pandas.DataFrame(
            {
                "number": np.arange(ROWS),
                "half": np.arange(ROWS) / 2,
                "kind": pandas.Series(["x", "y"] * (ROWS // 2)).astype("category"),
            }
        )
        result, moved = there_and_back(executor, frame)
        pandas.testing.assert_frame_equal(result, frame)
        check_shared(moved, ROWS * (8 + 8 + 1))
        result.loc[3, "half"] = 7.5
        assert result["half"][3] == 7.5

    @pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
    def test_dates(self, executor: motet.Executor, zone: str | None) -> None:
        pandas: Any = pytest.importorskip("pandas")
        dates = pandas.Series(pandas.date_range("2020-01-01", periods=ROWS, freq="s", tz=zone))
        differences = pandas.Series(dates - dates[0])
        for series in (dates, differences):
            result, moved = there_and_back(executor, series)
            pandas.testing.assert_series_equal(result, series)
            check_shared(moved, ROWS * 8)

    def test_as_the_index(self, executor: motet.Executor) -> None:
        pandas: Any = pytest.importorskip("pandas")
        index = pandas.DatetimeIndex(np.arange(ROWS).astype("M8[s]"))
        frame = pandas.DataFrame({"number": np.arange(ROWS)}, index=index)
        result, moved = there_and_back(executor, frame)
        pandas.testing.assert_frame_equal(result, frame)
        check_shared(moved, ROWS * 16)

    def test_functions_of_this_file_see_frames(self, executor: motet.Executor) -> None:
        pandas: Any = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"date": np.arange(ROWS).astype("M8[s]")})

        # By value, with the frame in its closure.
        def count() -> int:
            return int((frame["date"] > np.datetime64("1970-01-01T00:00:09")).sum())

        assert executor.submit(count).result(LIMIT) == ROWS - 10


class TestArrow:
    def table(self) -> Any:
        arrow: Any = pytest.importorskip("pyarrow")
        return arrow.table({"number": np.arange(ROWS), "name": arrow.array(names(ROWS))})

    def test_a_table(self, executor: motet.Executor) -> None:
        table = self.table()
        result, moved = there_and_back(executor, table)
        assert result.equals(table, check_metadata=True)
        check_shared(moved, table.nbytes)
        result.validate(full=True)

    def test_a_batch_and_an_array(self, executor: motet.Executor) -> None:
        (batch,) = self.table().to_batches()
        for value in (batch, batch["name"]):
            result, moved = there_and_back(executor, value)
            assert result.equals(value)
            check_shared(moved, value.nbytes)

    def test_of_a_part_only_that_travels(self, executor: motet.Executor) -> None:
        table = self.table().slice(1000, ROWS // 10)
        result, moved = there_and_back(executor, table)
        assert result.equals(table, check_metadata=True)
        check_shared(moved, table.nbytes)
        (batch,) = table.to_batches()
        result, moved = there_and_back(executor, batch)
        assert result.equals(batch, check_metadata=True)
        check_shared(moved, batch.nbytes)


class TestPolars:
    def frame(self, rows: int = ROWS) -> Any:
        polars: Any = pytest.importorskip("polars")
        pytest.importorskip("pyarrow")
        start = datetime.datetime(2020, 1, 1)
        return polars.DataFrame(
            {
                "number": np.arange(rows),
                "half": np.arange(rows) / 2,
                "name": names(rows),
                "missing": [None, 1, None, 3] * (rows // 4),
                "date": polars.Series(np.arange(rows)).cast(polars.Datetime("us")),
                "kind": polars.Series(["x", "y"] * (rows // 2), dtype=polars.Enum(["x", "y", "z"])),
                "category": polars.Series(["x", "y"] * (rows // 2), dtype=polars.Categorical),
                "list": [[1], [2, 3]] * (rows // 2),
                "when": [start] * rows,
            }
        )

    def test_a_frame(self, executor: motet.Executor) -> None:
        frame = self.frame()
        result, moved = there_and_back(executor, frame)
        assert result.schema == frame.schema
        assert result.equals(frame)
        check_shared(moved, int(frame.estimated_size() * 0.95))

    def test_series(self, executor: motet.Executor) -> None:
        for series in self.frame():
            result, moved = there_and_back(executor, series)
            assert (result.name, result.dtype) == (series.name, series.dtype)
            assert result.equals(series)
            assert moved["bytes_copied", "to_workers"] < LITTLE

    def test_of_a_part_only_that_travels(self, executor: motet.Executor) -> None:
        frame = self.frame()
        part = frame.slice(1000, ROWS // 100)
        result, moved = there_and_back(executor, part)
        assert result.equals(part)
        assert sum(moved.values()) < frame.estimated_size() / 10

    def test_small_frames_and_types_that_arrow_has_not(self, executor: motet.Executor) -> None:
        polars: Any = pytest.importorskip("polars")
        wide = polars.DataFrame({"wide": np.arange(ROWS)}).cast(polars.Int128)
        for frame in (polars.DataFrame(), self.frame(8), wide, wide["wide"]):
            result, _ = there_and_back(executor, frame)
            assert type(result) is type(frame)
            assert result.equals(frame)

    def test_a_query(self, executor: motet.Executor) -> None:
        polars: Any = pytest.importorskip("polars")
        query = self.frame().lazy().filter(polars.col("number") < 10)
        assert executor.submit(lambda query: query.collect().height, query).result(LIMIT) == 10

    def test_maps(self) -> None:
        polars: Any = pytest.importorskip("polars")
        frame = self.frame()
        parts = [frame.slice(start, ROWS // 10) for start in range(0, ROWS, ROWS // 10)]
        halved = motet.map(lambda part: part.filter(polars.col("number") % 2 == 0), parts, workers=2)
        assert polars.concat(halved).equals(frame.filter(polars.col("number") % 2 == 0))


def test_what_the_program_registers_goes_first(executor: motet.Executor) -> None:
    pytest.importorskip("pandas")
    import copyreg

    copyreg.pickle(Registered, lambda value: (Registered, (value.value + 1,)))
    try:
        assert executor.submit(lambda value: value.value, Registered(1)).result(LIMIT) == 2
    finally:
        del copyreg.dispatch_table[Registered]
    assert pickle.loads(pickle.dumps(np.ones(3))).tolist() == [1, 1, 1]


class Registered:
    """Something that `copyreg` knows."""

    def __init__(self, value: int) -> None:
        self.value = value
