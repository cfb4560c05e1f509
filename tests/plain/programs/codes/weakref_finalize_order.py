import weakref


class T:
    pass


a, b = T(), T()
weakref.finalize(a, print, "a")
weakref.finalize(b, print, "b")
