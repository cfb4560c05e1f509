# /// plain
# sample = true
# ///
import sys

sys.path.insert(0, "src")
import random

print(random.WHO)
