import sys

print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.maxsize, sys.byteorder, sys.maxunicode, sys.int_info)
