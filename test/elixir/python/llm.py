"""Stands in for a model, in the tests of what docs/elixir.md has for LiveView."""

import erlang


def tokens(prompt):
    if prompt == "fail":
        raise ValueError("no answer")
    owner = erlang.stream().owner
    try:
        while True:
            for word in prompt.split():
                yield word + " "
            if prompt != "forever":
                return
    finally:
        erlang.send(owner, erlang.Atom("closed"))
