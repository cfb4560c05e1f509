import sys
import time

for i in range(11):
    sys.stdout.write(f"\r[{'#' * i}{' ' * (10 - i)}] {i * 10}%")
    sys.stdout.flush()
    time.sleep(0.001)
print()
