import os

os.mkdir("sub")
os.chdir("sub")
print(__file__)
1 / 0
