# /// plain
# env = { PYTHONMALLOC = "debug" }
# ///
print([1, 2, 3])
