def f(*args):
    raise TypeError("many")


f(
    1,
    2,
    3,
)
