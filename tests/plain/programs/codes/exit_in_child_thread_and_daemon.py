import sys
import threading
import time

threading.Thread(target=time.sleep, args=(0.05,)).start()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
sys.exit(4)
