import gc

gc.set_debug(gc.DEBUG_SAVEALL)


class A:
    pass


a = A()
a.a = a
del a
print(gc.collect() > 0, len([x for x in gc.garbage if isinstance(x, A)]))
