class T:
    def __del__(self): print('gone')
t = T(); 1 / 0
