"""A package that a pool may allow, without its submodule."""

import os

import erlang
import pack.inner

found = pack.inner


def outer():
    return "outer"


def ask(name, *args):
    return erlang.call(name, *args)


def leave():
    os._exit(7)
