import os
import subprocess
import sys

os.mkdir("pkg")
open("pkg/__init__.py", "w").close()
open("pkg/__main__.py", "w").write("import sys; print(__name__, __package__, sys.argv)")
print(subprocess.run([sys.executable, "-m", "pkg", "x"], capture_output=True, text=True))
