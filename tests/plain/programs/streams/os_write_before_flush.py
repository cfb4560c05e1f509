# /// plain
# sample = true
# ///
import os

print("printed")
os.write(1, b"written\n")
