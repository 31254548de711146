"""The benchmark harness: measures motet beside its rivals in one interleaved run and judges the ratios."""
