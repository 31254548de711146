"""motet's pools in the place of `multiprocessing.Pool` and `ThreadPool`, for the tests of those classes."""

import unittest
from collections.abc import Callable
from functools import wraps
from typing import Any

from motet.compat import pools

MODULES = ["test_manager", "test_processes", "test_threads"]


def use_motet_for_suite(on_made: Callable[[], object]) -> None:
    """Put motet's classes in place; `on_made` is called for each pool that this process makes."""
    kind: Any = pools.Pool
    initialize = kind.__init__

    @wraps(initialize)
    def counted(*arguments: Any, **named: Any) -> None:
        on_made()
        initialize(*arguments, **named)

    kind.__init__ = counted
    pools.install()


def concerns_pools(case: type[unittest.TestCase]) -> bool:
    """Whether a test class tests pools."""
    return "TestPool" in case.__name__
