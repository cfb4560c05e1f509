# /// plain
# normalize = ["addresses"]
# ///
import faulthandler
import time

faulthandler.dump_traceback_later(0.1)
time.sleep(0.3)
print("on")
