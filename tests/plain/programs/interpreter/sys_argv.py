# /// plain
# argv = ["--name", "Zoë", "", "-x=1", "--"]
# ///
import sys

print(sys.argv)
