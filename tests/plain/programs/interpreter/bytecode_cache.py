# /// plain
# normalize = []
# ///
import os
import sys

open("helper.py", "w").write("x = 1\n")
import helper

print(helper.__cached__, os.listdir("__pycache__"), sys.implementation.cache_tag)
