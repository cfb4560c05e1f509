class T:
    __slots__ = ()
    def __del__(self): print('gone')
t = T()
