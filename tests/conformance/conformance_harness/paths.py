"""Where the harness keeps things: its own folder, and a cache that git ignores."""

from pathlib import Path

CONFORMANCE = Path(__file__).resolve().parents[1]
CACHE = CONFORMANCE.parents[1] / "build" / "conformance"


def ensure_cache() -> Path:
    """Create the cache folder; it ignores itself, whatever the checkout's own rules say."""
    CACHE.mkdir(parents=True, exist_ok=True)
    ignore = CACHE / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return CACHE
