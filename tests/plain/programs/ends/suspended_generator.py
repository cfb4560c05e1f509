def g():
    try: yield
    finally: print('closed')
x = g(); next(x)
