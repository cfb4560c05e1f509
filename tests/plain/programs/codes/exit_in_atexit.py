# /// plain
# normalize = ["addresses"]
# ///
import atexit
import sys


def leave():
    print("leaving")
    sys.exit(7)


atexit.register(leave)
