def a(x):
    return b(x, 1)


def b(x, y):
    return {"k": [x / (y - 1)]}


a(2)
