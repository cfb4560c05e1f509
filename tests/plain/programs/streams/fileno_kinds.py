import os
import stat

for fd in (0, 1, 2):
    mode = os.fstat(fd).st_mode
    print(fd, stat.S_ISFIFO(mode), stat.S_ISREG(mode), stat.S_ISCHR(mode), os.isatty(fd))
