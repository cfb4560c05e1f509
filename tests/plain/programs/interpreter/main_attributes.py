# /// plain
# sample = true
# ///
print(list(globals()))
print(__name__, __doc__, __package__, __spec__, __file__, type(__loader__).__name__)
