import resource

usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_maxrss > 0, resource.getpagesize(), resource.getrlimit(resource.RLIMIT_CORE)[0] >= -1)
