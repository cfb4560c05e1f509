import threading


def f(x):
    return 1 / x


t = threading.Thread(target=f, args=(0,), name="worker")
t.start()
t.join()
print("main goes on")
