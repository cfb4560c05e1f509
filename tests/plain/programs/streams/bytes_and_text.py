import sys

print("text")
sys.stdout.flush()
sys.stdout.buffer.write(b"bytes \xff\x00\n")
sys.stdout.buffer.flush()
print("text")
