def g():
    yield 1
    raise ValueError("in a generator")


list(g())
