# /// plain
# env = { PYTHONPATH = "/work/lib:relative" }
# ///
import sys

print(sys.path[:4])
