import sys

sys.exit("Fehler: größer ✗")
