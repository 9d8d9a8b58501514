def long_generator():
    yield from range(1_000_000_000)
