# /// plain
# sample = true
# ///
import sys
import threading


def work(n):
    for _ in range(50):
        sys.stdout.write(f"{'x' * 40}\n")


threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
