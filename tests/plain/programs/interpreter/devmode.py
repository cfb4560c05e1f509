# /// plain
# env = { PYTHONDEVMODE = "1" }
# ///
import sys

print(sys.flags.dev_mode, sys.warnoptions)
open("x.txt", "w")
