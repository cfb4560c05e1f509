import os
import sys

os.close(2)
sys.stderr.write("lost")
print("out")
