import sys
class T:
    def __del__(self): print('gone')
t = T(); sys.exit(7)
