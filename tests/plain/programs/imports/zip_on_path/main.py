import sys
import zipfile

with zipfile.ZipFile("lib.zip", "w") as archive:
    archive.writestr("zipped.py", "x = 7\ndef f():\n    1 / 0\n")
sys.path.insert(0, "lib.zip")
import zipped

print(zipped.x, zipped.__file__)
zipped.f()
