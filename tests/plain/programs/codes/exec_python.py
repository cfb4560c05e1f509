import os
import sys

print("lost unless flushed")
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-c", "print('new'); raise SystemExit(6)"])
