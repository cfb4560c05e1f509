import os
import signal
import time

seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
time.sleep(0.01)
print(seen)
