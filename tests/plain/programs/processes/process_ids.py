import os

print(os.getppid() == 1, os.getpid() > 1)
