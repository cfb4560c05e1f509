import os

open_ones = []
for fd in range(64):
    try:
        os.fstat(fd)
        open_ones.append(fd)
    except OSError:
        pass
print(open_ones)
