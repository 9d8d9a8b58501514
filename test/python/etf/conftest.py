"""A real node, and each way of encoding, for the tests of the codec."""

from __future__ import annotations

import pytest

from beam import Beam
from encoders import WAYS
from erlang_port.etf.encoder import Encoder


@pytest.fixture(scope="session")
def beam():
    node = Beam()
    yield node
    node.close()


@pytest.fixture(params=WAYS)
def made(request):
    return Encoder(way=request.param)
