import contextlib
import time


@contextlib.contextmanager
def timer(label):
    start = time.perf_counter()
    try:
        yield
    finally:
        print(f"{label}: {'fast' if time.perf_counter() - start < 5 else 'slow'}")


with timer("block"), contextlib.ExitStack() as stack:
    stack.callback(print, "callback")
    print("inside")
