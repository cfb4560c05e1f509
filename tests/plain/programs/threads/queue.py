import queue
import threading

q = queue.Queue()


def consume():
    while (item := q.get()) is not None:
        print("got", item)
        q.task_done()


t = threading.Thread(target=consume)
t.start()
for n in range(3):
    q.put(n)
q.put(None)
t.join()
