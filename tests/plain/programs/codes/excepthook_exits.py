import sys


def hook(kind, value, trace):
    print("hook", kind.__name__)
    sys.exit(12)


sys.excepthook = hook
1 / 0
