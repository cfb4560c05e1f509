import threading


def f():
    raise KeyboardInterrupt


t = threading.Thread(target=f)
t.start()
t.join()
print("on")
