import weakref
class T: pass
t = T(); r = weakref.ref(t, lambda _: print('gone'))
