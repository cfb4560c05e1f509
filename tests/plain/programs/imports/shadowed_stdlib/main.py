# /// plain
# sample = true
# ///
import random

print(random.choice([1]))
