from concurrent.futures import ThreadPoolExecutor, as_completed

with ThreadPoolExecutor(4) as pool:
    futures = {pool.submit(pow, n, 2): n for n in range(5)}
    print(sorted((futures[f], f.result()) for f in as_completed(futures)))
