import os

print([os.get_inheritable(fd) for fd in (0, 1, 2)])
