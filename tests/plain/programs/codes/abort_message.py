import os
import sys

print("out", flush=True)
print("err", file=sys.stderr)
os.abort()
