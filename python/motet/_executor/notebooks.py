"""Whether this is a notebook's kernel."""

from __future__ import annotations

import sys


def is_kernel() -> bool:
    """Whether cells of a notebook run here. They run inside the kernel's event loop, and may block it."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython  # type: ignore[import-not-found,unused-ignore]

    return hasattr(get_ipython(), "kernel")
