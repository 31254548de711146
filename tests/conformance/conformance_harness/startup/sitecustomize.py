"""Run by an interpreter that a suite starts, before the program: see `process_pools`."""

import os

# Not for those that this one starts.
if os.environ.pop("MOTET_CONFORMANCE_POOLS", None):
    os.environ.pop("PYTHONPATH", None)
    from conformance_harness.process_pools import use_motet

    use_motet()
