print(eval("1 / 2"), compile("x: int", "n", "exec").co_flags)


def f(x: int): ...


print(f.__annotations__, f.__code__.co_flags)
