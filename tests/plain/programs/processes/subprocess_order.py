import subprocess

print("before")
subprocess.run(["echo", "from echo"])
print("after")
