import inspect


def caller():
    return inspect.getmodule(inspect.currentframe()).__name__, inspect.getsource(caller)


print(caller())
