import importlib

open("made.py", "w").write("x = 5\n")
importlib.invalidate_caches()
import made

print(made.x)
