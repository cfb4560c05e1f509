import os
import sys

print("lost")
os.execv(sys.executable, [sys.executable, "-c", "print('new')"])
