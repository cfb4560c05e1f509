# /// plain
# argv = ["a", "b"]
# python = ">=3.10"
# ///
import sys

print(sys.orig_argv)
