"""Worker pools: `motet.Executor` and `motet.map`."""
