import os

print([os.get_blocking(fd) for fd in (0, 1, 2)])
