class M(type):
    def __eq__(self, o): print('eq'); return False
    def __hash__(self): print('hash'); return 1
class A(metaclass=M): pass
a = A()
