import threading


def work(n):
    for i in range(50):
        print(n * 1000 + i)


threads = [threading.Thread(target=work, args=(n,)) for n in range(1)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
