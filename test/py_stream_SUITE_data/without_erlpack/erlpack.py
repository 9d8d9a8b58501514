"""Stands before the real package on the path: as if it were not installed."""

raise ImportError("erlpack is left out on purpose")
