f = open("data.txt", "w")
f.write("buffered")
print(repr(open("data.txt").read()))
