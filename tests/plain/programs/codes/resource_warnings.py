import warnings

warnings.simplefilter("always")


def f():
    open("data.txt", "w")


f()
print("on")
