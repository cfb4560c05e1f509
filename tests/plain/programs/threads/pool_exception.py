from concurrent.futures import ThreadPoolExecutor


def fail(x):
    raise KeyError(x)


with ThreadPoolExecutor(1) as pool:
    pool.submit(fail, "k").result()
