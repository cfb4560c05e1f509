import functools


def deco(f):
    @functools.wraps(f)
    def wrapper(*args):
        return f(*args)

    return wrapper


@deco
def fail(x):
    raise ValueError(x)


fail("decorated")
