print("__annotations__" in globals(), globals().get("__annotations__"))
