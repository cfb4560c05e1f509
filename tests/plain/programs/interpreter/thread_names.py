# /// plain
# normalize = ["addresses"]
# ///
import re
import threading

t = threading.Thread(target=print)
print(t.name, threading.Thread().name, re.sub(r"\d{5,}", "N", repr(threading.current_thread())))
