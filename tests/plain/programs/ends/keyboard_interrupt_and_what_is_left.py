import threading, time, atexit, sys
sys.excepthook = lambda *a: print('hook')
atexit.register(print, 'bye')
class T:
    def __del__(self): print('gone', len(log))
log = []; t = T()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
raise KeyboardInterrupt
