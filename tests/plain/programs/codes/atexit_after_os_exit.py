import atexit
import os

atexit.register(print, "never")
print("lost in a buffer")
os._exit(3)
