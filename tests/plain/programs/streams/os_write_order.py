import os
import sys

print("printed")
sys.stdout.flush()
os.write(1, b"written\n")
print("again")
