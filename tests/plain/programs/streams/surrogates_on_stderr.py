import sys

print("\udcff \U0001f600", file=sys.stderr)
