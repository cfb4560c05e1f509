# /// plain
# sample = true
# ///
import sys

print(sys.flags)
