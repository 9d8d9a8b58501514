"""The plugin for pytest; installed with the package (its entry point is `erlang`)."""

from collections.abc import Iterator

import pytest

from erlang.testing import ErlangNode


@pytest.fixture
def erlang_node() -> Iterator[ErlangNode]:
    """A node for the code under test, in which the module `erlang` works."""
    with ErlangNode() as node:
        yield node
