import sys

sys.unraisablehook = lambda args: print("hook", args.exc_type.__name__, args.err_msg)


class A:
    def __del__(self):
        1 / 0


a = A()
del a
print("on")
