import subprocess
import sys

print(subprocess.run([sys.executable], input="print(__name__)\n1/0\n", capture_output=True, text=True))
print(subprocess.run([sys.executable, "-"], input="import sys; print(sys.argv)", capture_output=True, text=True))
