with open(1, "w", closefd=False) as out:
    print("hello", file=out)
print("still")
