import atexit
import sys

atexit.register(lambda: print(sys.last_type.__name__, sys.last_value, sys.last_traceback.tb_lineno))
1 / 0
