import os

print(os.getloadavg()[0] >= 0)
print(os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_NPROCESSORS_ONLN") >= 1, os.path.exists("/proc/stat"))
