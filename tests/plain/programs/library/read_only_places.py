import os

for path in ("/etc/passwd", "/usr/bin/x", "/root/x", "/x"):
    try:
        open(path, "w")
    except OSError as error:
        print(path, type(error).__name__)
