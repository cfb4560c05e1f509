import sys


def depth():
    try:
        return 1 + depth()
    except RecursionError:
        return 1


print(sys.getrecursionlimit(), depth())
