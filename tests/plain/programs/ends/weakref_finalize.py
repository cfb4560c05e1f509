import weakref
class T: pass
t = T(); weakref.finalize(t, print, 'gone')
