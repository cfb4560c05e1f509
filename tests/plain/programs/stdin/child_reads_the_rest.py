# /// plain
# stdin = "one\ntwo\nthree\n"
# ///
import os
import subprocess
import sys

first = b""
while not first.endswith(b"\n"):
    first += os.read(0, 1)
print(first)
sys.stdout.flush()
subprocess.run(["head", "-1"])
