import difflib
import sys

sys.stdout.writelines(difflib.unified_diff(["a\n", "b\n"], ["a\n", "c\n"], "old", "new"))
