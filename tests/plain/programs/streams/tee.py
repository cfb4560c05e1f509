import sys


class Tee:
    def __init__(self, *streams):
        self.streams = streams

    def write(self, text):
        for stream in self.streams:
            stream.write(text)

    def flush(self):
        for stream in self.streams:
            stream.flush()


sys.stdout = Tee(sys.stdout, open("log.txt", "w"))
print("to both")
sys.stdout.flush()
sys.stdout = sys.__stdout__
print(open("log.txt").read())
