# /// plain
# stdin = "a\nb\nc\n"
# ///
import sys

print(next(sys.stdin), end="")
print(sys.stdin.readline(), end="")
print(repr(sys.stdin.read()), repr(sys.stdin.read()))
