# /// plain
# normalize = ["addresses"]
# ///
import sys


class Out:
    def write(self, text):
        sys.__stdout__.write(text)

    def flush(self):
        raise OSError("disk full")


sys.stdout = Out()
print("text")
