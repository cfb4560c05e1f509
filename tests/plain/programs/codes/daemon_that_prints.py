import threading
import time


def chatter():
    time.sleep(30)
    print("never")


threading.Thread(target=chatter, daemon=True).start()
print("main")
