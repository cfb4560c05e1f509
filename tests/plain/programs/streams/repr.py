import sys

print(sys.stdin, sys.stdout, sys.stderr)
print(sys.stdout.buffer, sys.stdout.buffer.raw)
