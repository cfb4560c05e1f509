print(sorted(n for n in globals() if n != '__builtins__'), __name__, __spec__, __package__, __doc__)
