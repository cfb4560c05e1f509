import subprocess
import sys

if len(sys.argv) == 1:
    done = subprocess.run([sys.executable, __file__, "child"], capture_output=True, text=True)
    print(done.stdout, done.stderr, done.returncode)
else:
    print(sys.argv, __name__)
    raise ValueError("from the child")
