import subprocess
import sys

print(subprocess.run([sys.executable, "-u", "-c", "import os; print('a'); os.write(1, b'b')"], capture_output=True))
