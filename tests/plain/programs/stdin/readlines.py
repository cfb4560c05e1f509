# /// plain
# stdin = "3\n1 2 3\n"
# ///
import sys

n, numbers = sys.stdin.readlines()
print(int(n), sum(map(int, numbers.split())))
