import sys

sys.stderr.close()
print("x")
try:
    print("y", file=sys.stderr)
except ValueError as error:
    print(error)
