import traceback


def f():
    return "".join(traceback.format_stack())


print(f())
