"""A submodule."""


def run():
    return "inner"
