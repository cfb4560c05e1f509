import os
class T:
    def __del__(self): print('gone', os.getpid() == first)
first = os.getpid(); t = T()
pid = os.fork()
if pid: os.waitpid(pid, 0)
