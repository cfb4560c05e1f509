import os
import sys


class T:
    def __del__(self):
        print(os is not None, sys is not None, os.getcwd(), sys.argv, sys.is_finalizing())


t = T()
