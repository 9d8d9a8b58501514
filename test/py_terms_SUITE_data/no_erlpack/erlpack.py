"""Stands before the installed erlpack, so that it cannot be imported."""

raise ImportError("erlpack is left out on purpose")
