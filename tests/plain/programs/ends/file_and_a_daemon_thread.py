import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
f = open(1, 'w', closefd=False); f.write('x\n')
