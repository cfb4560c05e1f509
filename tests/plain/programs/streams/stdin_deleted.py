import sys

del sys.stdin
input()
