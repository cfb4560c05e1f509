import importlib

import helper

open("helper.py", "w").write("x = 'second, and longer'\n")
importlib.invalidate_caches()
print(helper.x, importlib.reload(helper).x)
