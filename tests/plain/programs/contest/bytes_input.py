# /// plain
# stdin = "2\n10 20\n30 40\n"
# ///
import sys

input = sys.stdin.buffer.readline
for _ in range(int(input())):
    a, b = map(int, input().split())
    sys.stdout.write(f"{a + b}\n")
