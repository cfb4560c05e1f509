# /// plain
# stdin = "4\n4 3 2 1\n"
# ///
import sys

input = sys.stdin.readline
n = int(input())
print(*sorted(map(int, input().split())))
