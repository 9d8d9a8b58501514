"""Names may be registered once."""

names = set()


def register(name):
    if name in names:
        raise ValueError(f"table {name!r} is already defined")
    names.add(name)
