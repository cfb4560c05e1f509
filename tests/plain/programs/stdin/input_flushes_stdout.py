# /// plain
# stdin = "a\n"
# ///
import os
import sys

print("asked")
sys.stdin.readline()
os.write(1, b"direct\n")
