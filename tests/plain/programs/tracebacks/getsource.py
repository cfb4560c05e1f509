import inspect


class A:
    """A class."""

    x = 1


print(inspect.getsource(A), inspect.getfile(A), inspect.getsourcefile(A), inspect.getdoc(A))
