import subprocess
import sys

print(subprocess.run([sys.executable, "-I", "-c", "import sys; print(sys.path, sys.flags.isolated)"], capture_output=True, text=True).stdout)
