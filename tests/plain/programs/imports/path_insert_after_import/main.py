import random
import sys

sys.path.insert(0, "src")
import random as again

print(again is random, hasattr(random, "WHO"))
