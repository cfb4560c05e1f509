import threading

data = threading.local()
data.x = 1


def f():
    print(hasattr(data, "x"))


t = threading.Thread(target=f)
t.start()
t.join()
print(data.x)
