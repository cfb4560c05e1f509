import threading

event, lock, seen = threading.Event(), threading.Lock(), []


def work(n):
    event.wait()
    with lock:
        seen.append(n)


threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
for thread in threads:
    thread.start()
event.set()
for thread in threads:
    thread.join()
print(sorted(seen))
