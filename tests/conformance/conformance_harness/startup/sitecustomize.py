"""Run by an interpreter that a suite starts, before the program: see `executors` and `loky_pools`."""

import os

# Not for those that this one starts.
if kind := os.environ.pop("MOTET_CONFORMANCE_POOLS", None):
    os.environ.pop("PYTHONPATH", None)
    from conformance_harness import executors

    executors.use_motet(kind)
elif "MOTET_CONFORMANCE_LOKY" in os.environ:
    from conformance_harness import loky_pools

    loky_pools.use_motet()
