# /// plain
# sample = true
# ///
import inspect


def f():
    return [(each.filename, each.function, each.lineno) for each in inspect.stack()]


print(f())
