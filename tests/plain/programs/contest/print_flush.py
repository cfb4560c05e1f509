for i in range(500):
    print(i, flush=True)
