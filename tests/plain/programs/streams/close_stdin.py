import sys

sys.stdin.close()
try:
    input()
except Exception as error:
    print(type(error).__name__, error)
