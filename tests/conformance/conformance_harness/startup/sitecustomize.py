"""Run by an interpreter that a suite starts, before the program: see `process_pools` and `loky_pools`."""

import os

# Not for those that this one starts.
if os.environ.pop("MOTET_CONFORMANCE_POOLS", None):
    os.environ.pop("PYTHONPATH", None)
    from conformance_harness import process_pools

    process_pools.use_motet()
elif "MOTET_CONFORMANCE_LOKY" in os.environ:
    from conformance_harness import loky_pools

    loky_pools.use_motet()
