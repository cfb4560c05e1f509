import glob
import os

for name in "abc":
    open(name + ".txt", "w").close()
print(sorted(glob.glob("*.txt")), sorted(e.name for e in os.scandir(".") if e.is_file()))
