def f():
    raise RuntimeError("while importing")


f()
