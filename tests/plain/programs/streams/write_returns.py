import sys

print(sys.stdout.write("é\n"), sys.stdout.buffer.write(b"abc\n"))
