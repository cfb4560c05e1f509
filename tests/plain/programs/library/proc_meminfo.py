print(open("/proc/meminfo").readline().split()[0])
