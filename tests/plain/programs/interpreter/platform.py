import platform

print(platform.system(), platform.machine(), platform.libc_ver()[0], platform.python_compiler(), platform.architecture())
