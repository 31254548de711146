"""The worker pools' part of the harness: motet's executor beside its rivals."""
