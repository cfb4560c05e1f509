# /// plain
# sample = true
# ///
import sys

print(sys.path)
print(sys.path_hooks[1].__name__, [type(each) for each in sys.meta_path])
