import faulthandler
import sys


def f():
    faulthandler.dump_traceback(file=sys.stderr, all_threads=False)


f()
