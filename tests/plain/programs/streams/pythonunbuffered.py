# /// plain
# env = { PYTHONUNBUFFERED = "1" }
# ///
import os
import sys

print("first", sys.stdout.write_through)
os.write(1, b"second\n")
