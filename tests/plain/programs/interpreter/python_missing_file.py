import subprocess
import sys

for argv in (["missing.py"], ["-m", "missing"], ["-c"], ["--no-such-option"], ["."], ["-X", "dev", "missing"]):
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(argv, done.returncode, done.stdout, done.stderr[:300])
