import sys

print(sys.dont_write_bytecode, sys.pycache_prefix, sys.warnoptions, sys._xoptions)
