import os
import sys

saved = os.dup(1)
fd = os.open("out.txt", os.O_RDWR | os.O_CREAT)
print("before")
sys.stdout.flush()
os.dup2(fd, 1)
print("in the file")
sys.stdout.flush()
os.dup2(saved, 1)
print(open("out.txt").read())
