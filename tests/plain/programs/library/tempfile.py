import os
import tempfile

with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "x")
    open(path, "w").write("1")
    print(os.path.dirname(directory), os.listdir(directory))
with tempfile.NamedTemporaryFile("w+", suffix=".txt") as file:
    file.write("abc")
    file.seek(0)
    print(file.read(), file.name.endswith(".txt"))
