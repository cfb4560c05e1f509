import os
import sys

sys.stdout = os.fdopen(1, "w", buffering=1)
print("by number")
