import sys

print(sorted(name for name in vars(sys) if name != "last_exc"))
