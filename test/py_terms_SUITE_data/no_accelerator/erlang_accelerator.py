"""Stands before the installed accelerator, so that it cannot be imported."""

raise ImportError("the accelerator is left out on purpose")
