"""A module of which a pool allows some functions by name."""

import os

reexported = os.getcwd


def one():
    return "one"


def other():
    raise AssertionError("other was called")


class Tools:
    @staticmethod
    def use():
        return "used"

    @staticmethod
    def abuse():
        raise AssertionError("abuse was called")
