import itertools
import sys
import threading
import time

stop = threading.Event()


def spin():
    stop.wait()
    sys.stdout.write("\rdone\n")


thread = threading.Thread(target=spin)
thread.start()
time.sleep(0.01)
stop.set()
thread.join()
