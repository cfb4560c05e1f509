import threading

barrier = threading.Barrier(3)
out = []


def f(n):
    barrier.wait()
    out.append(n)


ts = [threading.Thread(target=f, args=(n,)) for n in range(3)]
[t.start() for t in ts]
[t.join() for t in ts]
print(sorted(out))
