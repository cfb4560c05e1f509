# /// plain
# env = { PYTHONIOENCODING = "latin-1:replace" }
# ///
import sys

print(sys.stdout.encoding, "é€")
