# /// plain
# stdin = "1 2\n3 4\n\n5\n"
# ///
import sys

for line in sys.stdin:
    print(repr(line))
