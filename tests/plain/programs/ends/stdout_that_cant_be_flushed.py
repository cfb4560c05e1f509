# /// plain
# normalize = ["addresses"]
# ///
import sys
class Out:
    def write(self, s): pass
    def flush(self): raise ValueError('full')
sys.stdout = Out()
