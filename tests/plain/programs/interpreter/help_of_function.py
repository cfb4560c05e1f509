def f(x: int) -> str:
    """Turn x into text."""


help(f)
