import os, sys
pid = os.fork()
if pid: print(os.waitpid(pid, 0)[1] >> 8); sys.exit(3)
sys.exit(4)
