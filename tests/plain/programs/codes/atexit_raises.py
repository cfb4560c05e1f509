# /// plain
# normalize = ["addresses"]
# sample = true
# ///
import atexit


def bad():
    raise ValueError("at the end")


atexit.register(print, "later")
atexit.register(bad)
