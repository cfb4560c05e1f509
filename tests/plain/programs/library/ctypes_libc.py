import ctypes
import ctypes.util

libc = ctypes.CDLL(None)
print(libc.abs(-5), ctypes.util.find_library("c") is not None, ctypes.sizeof(ctypes.c_long))
libc.printf(b"from C %d\n", 7)
