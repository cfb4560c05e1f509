import subprocess
import sys

done = subprocess.run(["another-name", "-c", "print(6 * 7)"], executable=sys.executable, capture_output=True, text=True)
print(done.returncode, done.stdout, done.stderr[:60])
