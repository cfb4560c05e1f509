# /// plain
# sample = true
# ///
class Resource:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("closing", self.name)


a = Resource("a")
b = Resource("b")
print("end of main")
