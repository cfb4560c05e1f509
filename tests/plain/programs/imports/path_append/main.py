import sys

sys.path.append("src")
import random
import own

print(hasattr(random, "WHO"), own.WHO)
