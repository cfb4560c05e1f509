import os
import time

pid = os.fork()
if pid == 0:
    if os.fork() == 0:
        time.sleep(0.1)
        os._exit(0)
    os._exit(0)
os.waitpid(pid, 0)
print("done")
