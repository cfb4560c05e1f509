import atexit


def first():
    print("first")
    atexit.register(print, "more")


atexit.register(first)
