import os

umask = os.umask(0)
print(oct(umask), os.getcwd(), os.path.expanduser("~"), os.listdir("."))
