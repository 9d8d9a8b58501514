"""A module that must be imported once, and whose import takes a while."""

import time

import registry

registry.register("users")
for _ in range(50):
    time.sleep(0.02)


def fine():
    return "fine"
