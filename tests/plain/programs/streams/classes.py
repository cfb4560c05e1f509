import sys

for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(type(stream).__name__, type(stream.buffer).__name__, type(stream.buffer.raw).__name__)
