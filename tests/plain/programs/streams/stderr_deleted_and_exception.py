# /// plain
# normalize = ["addresses"]
# ///
import sys

del sys.stderr
1 / 0
