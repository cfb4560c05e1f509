import os

print(os.name, os.sep, os.linesep.encode(), os.uname().sysname, os.cpu_count() >= 1, len(os.sched_getaffinity(0)) >= 1)
