import subprocess
import sys

print(subprocess.run([sys.executable, "-c", "import sys; print(sys.argv, sys.path[0] == ''); 1/0", "a"], capture_output=True, text=True))
