# /// plain
# normalize = ["addresses"]
# ///
class T:
    def __del__(self): raise ValueError
t = T()
