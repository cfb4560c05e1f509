print(globals().get("__cached__", "missing"))
