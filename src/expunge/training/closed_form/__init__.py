"""Models with a formula: integer sums over users are the truth, everything else is a cache that can be checked."""
