import sys

sys.stdout.reconfigure(encoding="latin-1", errors="replace")
print("é €")
print(sys.stdout.encoding, sys.stdout.errors)
