import sys

print([getattr(each, "__name__", each) for each in sys.meta_path])
