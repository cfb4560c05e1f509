import sys

buffer = sys.stdout.detach()
buffer.write(b"to the buffer\n")
buffer.flush()
print("to nobody")
