import sys

del sys.stdout
print("?")
