import subprocess

print(subprocess.run(["echo", "hi"], capture_output=True, text=True))
print(subprocess.run("exit 3", shell=True).returncode)
subprocess.run(["no-such-program"])
