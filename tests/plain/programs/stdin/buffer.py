# /// plain
# stdin = "ab\ncd\n"
# ///
import sys

print(sys.stdin.buffer.readline(), sys.stdin.buffer.read(1), sys.stdin.buffer.peek()[:1], sys.stdin.buffer.read())
