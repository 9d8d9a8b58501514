"""What the Elixir project has of its own in Python."""


def words(text):
    yield from text.split()
    yield None
