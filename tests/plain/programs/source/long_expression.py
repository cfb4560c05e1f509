x = 1
print(eval("+".join(["x"] * 2000)))
