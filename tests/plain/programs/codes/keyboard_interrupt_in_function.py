def f():
    raise KeyboardInterrupt("enough")


f()
