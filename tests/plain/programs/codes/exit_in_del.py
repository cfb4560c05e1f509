# /// plain
# normalize = ["addresses"]
# ///
import sys


class A:
    def __del__(self):
        sys.exit(3)


a = A()
del a
print("on")
