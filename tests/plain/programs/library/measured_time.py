import time

start = time.perf_counter()
time.sleep(0.02)
elapsed = time.perf_counter() - start
print(0.02 <= elapsed < 2, time.monotonic() > 0, time.process_time() < 10, abs(time.time() - time.time_ns() / 1e9) < 1)
