import warnings


def f():
    warnings.warn("the same")


for _ in range(3):
    f()
print(len(globals().get("__warningregistry__", {})))
