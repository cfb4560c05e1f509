import sys

before = set(sys.modules)
import helper

print(sorted(name for name in set(sys.modules) - before))
