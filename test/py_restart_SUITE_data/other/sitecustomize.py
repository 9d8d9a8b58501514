"""Makes CPython look like another Python."""

import sys

sys.implementation.name = "pypy"
