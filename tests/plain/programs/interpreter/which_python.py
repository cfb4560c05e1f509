import shutil
import subprocess
import sys

print(shutil.which("python3"), shutil.which("python"))
print(subprocess.run(["python3", "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True).stdout)
