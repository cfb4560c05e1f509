# /// plain
# python = ">=3.11"
# sample = true
# ///
def f():
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [TypeError("two"), OSError(2, "x")])])


f()
