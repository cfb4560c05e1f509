# /// plain
# sample = true
# ///
import types

helper = types.ModuleType("helper")
exec("class T:\n    def __del__(self): print('helper', __name__)\nt = T()", vars(helper))
import sys

sys.modules["helper"] = helper
del helper
