import os
import signal

print("not flushed")
os.kill(os.getpid(), signal.SIGKILL)
