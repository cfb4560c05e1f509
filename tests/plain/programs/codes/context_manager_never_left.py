import contextlib


@contextlib.contextmanager
def c():
    yield
    print("left")


m = c()
m.__enter__()
print("main")
