from . import VERSION


def double(x):
    return x * 2, VERSION
