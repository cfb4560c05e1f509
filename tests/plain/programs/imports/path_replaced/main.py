import sys

sys.path[:] = ["/work/src"]
import own

try:
    import csv
except ImportError as error:
    print(error)
print(own.WHO)
