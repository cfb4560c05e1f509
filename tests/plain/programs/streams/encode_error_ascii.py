import sys

sys.stdout.reconfigure(encoding="ascii")
print("half")
print("ä")
