"""Dask's own graphs, computed on motet's workers."""

from __future__ import annotations

import os

import dask  # type: ignore[import-untyped,unused-ignore]
import motet


def test_a_graph_runs_on_an_executor() -> None:
    step = 2

    @dask.delayed  # type: ignore[untyped-decorator,unused-ignore]
    def increase(number: int) -> int:
        return number + step

    @dask.delayed  # type: ignore[untyped-decorator,unused-ignore]
    def where(_: object) -> int:
        return os.getpid()

    with motet.Executor("processes", 2) as executor, dask.config.set(scheduler=executor):
        total = dask.delayed(sum)([increase(number) for number in range(20)])
        assert total.compute() == sum(range(20)) + 40
        assert where(total).compute() != os.getpid()


def test_an_executor_is_the_pool_of_the_process_scheduler() -> None:
    with motet.Executor("processes", 2) as executor:
        total = dask.delayed(sum)([dask.delayed(abs)(-number) for number in range(20)])
        assert total.compute(scheduler="processes", pool=executor) == sum(range(20))
