# /// plain
# stdin = "line\n"
# ///
import subprocess

print(subprocess.run(["cat"], capture_output=True, text=True).stdout)
