import os
import pty

pid, fd = pty.fork()
if pid == 0:
    print("in a terminal", os.isatty(1), flush=True)
    os.read(0, 1)
    os._exit(0)
seen = b""
while b"\n" not in seen:
    seen += os.read(fd, 100)
print(seen)
os.write(fd, b"\n")
os.waitpid(pid, 0)
