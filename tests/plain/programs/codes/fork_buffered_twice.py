import os

print("before the fork")
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
