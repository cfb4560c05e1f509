import subprocess
import sys

print(subprocess.run([sys.executable, "-q", "-i"], input="1+1\nx\n", capture_output=True, text=True))
