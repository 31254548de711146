"""How long the tests of this folder run, and from which seed; CONTRIBUTING.md describes the variables."""

from __future__ import annotations

import os

SEED = int(os.environ.get("MOTET_STRESS_SEED", "20261122"))
# The connections that the soak opens and closes.
SOAK_CONNECTIONS = int(os.environ.get("MOTET_SOAK_CONNECTIONS", "20000"))


def seconds(usual: float) -> float:
    """How long a test goes on: as long as it usually does unless the environment wants more."""
    return float(os.environ.get("MOTET_STRESS_SECONDS", usual))
