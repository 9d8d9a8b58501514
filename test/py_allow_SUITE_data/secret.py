"""A module that no pool allows: even its import shows."""

import offered

offered.called.append("imported secret")


def function():
    offered.called.append("secret")
