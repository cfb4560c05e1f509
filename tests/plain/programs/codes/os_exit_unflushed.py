import os

print("not flushed")
os._exit(0)
