# /// plain
# argv = ["a.txt", "-"]
# stdin = "from stdin\n"
# ///
import fileinput

open("a.txt", "w").write("from file\n")
for line in fileinput.input():
    print(fileinput.filename(), line, end="")
