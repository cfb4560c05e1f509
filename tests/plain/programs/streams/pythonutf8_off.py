# /// plain
# env = { LC_ALL = "C", PYTHONCOERCECLOCALE = "0", PYTHONUTF8 = "0" }
# ///
import sys

print(sys.stdout.encoding, sys.stdout.errors, sys.getfilesystemencoding())
print(ascii("é"))
