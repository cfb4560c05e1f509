# /// plain
# stdin = "a\nb\n"
# ///
import os

print("first", end=" ")
input("prompt> ")
os.write(1, b"[direct]")
input("prompt> ")
