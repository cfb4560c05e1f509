log = []
class T:
    def __del__(self): print(len(log), T, sorted(globals())[-1])
z = T()
