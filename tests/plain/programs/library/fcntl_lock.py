import fcntl
import os

f = open("lock", "w")
fcntl.flock(f, fcntl.LOCK_EX)
pid = os.fork()
if pid == 0:
    try:
        fcntl.flock(open("lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        print("locked", error.errno, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
