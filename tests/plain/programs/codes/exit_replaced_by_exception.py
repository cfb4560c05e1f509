import sys

try:
    sys.exit(2)
finally:
    raise ValueError("instead")
