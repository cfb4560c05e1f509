import subprocess

print("before", flush=True)
subprocess.run(["echo", "from echo"])
print("after")
