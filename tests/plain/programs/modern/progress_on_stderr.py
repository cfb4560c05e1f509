# /// plain
# sample = true
# ///
import sys
import time

for i in range(6):
    print(f"\r{i * 20:3d}%|{'█' * i:<5}| {i}/5", end="", file=sys.stderr, flush=True)
    time.sleep(0.001)
print(file=sys.stderr)
print("result: 42")
