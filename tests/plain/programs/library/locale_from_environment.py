# /// plain
# env = { LC_ALL = "C" }
# ///
import locale
import sys

print(locale.setlocale(locale.LC_CTYPE, ""), sys.stdout.encoding, sys.flags.utf8_mode)
