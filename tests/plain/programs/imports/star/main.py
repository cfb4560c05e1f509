from helper import *

print(a, "_b" in globals(), "c" in globals())
