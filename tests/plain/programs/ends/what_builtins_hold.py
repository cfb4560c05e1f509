import builtins
class T:
    def __del__(self): print('gone')
builtins.z = T()
