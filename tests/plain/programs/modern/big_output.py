# /// plain
# sample = true
# ///
import sys

for n in range(2000):
    print(f"line {n} " + "x" * 400)
sys.stderr.write("y" * 200_000)
