# /// plain
# sample = true
# ///
import pickle


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


data = pickle.dumps(Point(3))
print(pickle.loads(data) == Point(3), Point.__module__, b"__main__" in data)
