import os
fds = [os.open('/dev/null', os.O_RDONLY) for _ in range(50)]
class T:
    def __del__(self): print(len([os.fstat(fd) for fd in fds]))
t = T()
