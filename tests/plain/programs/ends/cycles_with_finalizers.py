class T:
    def __del__(self): print('gone')
t = T(); t.t = t; del t
