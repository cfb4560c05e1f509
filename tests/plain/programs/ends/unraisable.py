# /// plain
# normalize = ["addresses"]
# ///
class A:
    def __del__(self): raise ValueError('late')
A()
print('on')
